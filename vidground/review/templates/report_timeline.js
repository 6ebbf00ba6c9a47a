// The timeline of one video: a ruler, its captions in lanes, and a curve per query.

const RULER = 22;
const LANE = 24;
const MAX_LANES = 6;
const CURVE = 58;
const LABEL = 24;
const CHARACTER = 6.2; // approximate width of a character, in pixels
const MAX_ZOOM = 64;
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400];

/** shown: visible width in pixels; width: total width. pinned: labels that stay visible. */
const timeline = { shown: 0, width: 0, zoom: 1, playhead: null, groups: new Map(), pinned: [] };

function drawTimeline() {
  const video = videos[state.video];
  const shown = Math.max(200, $("timeline").clientWidth);
  const width = shown * timeline.zoom;
  const x = (seconds) => (seconds / Math.max(video.duration, 0.001)) * width;
  const own = events.filter((event) => event.owner === state.video);
  const captions = own.filter((event) => event.query === null);
  const lanes = inLanes(captions);
  const laneCount = captions.length ? Math.max(...lanes.values()) + 1 : 0;
  const top = RULER + laneCount * LANE;
  const height = top + video.curves.length * (LABEL + CURVE) + 2;
  const root = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group",
    "aria-label": "Timeline" });
  Object.assign(timeline, { shown, width, groups: new Map(), pinned: [] });
  root.append(...ruler(video.duration, x, height));
  for (let lane = 0; lane < laneCount; lane += 1) {
    root.append(shape("rect", { class: "lane", x: 0, y: RULER + lane * LANE, width,
      height: LANE - 4, rx: 5 }));
  }
  for (const event of captions) {
    root.append(bar(event, x, RULER + lanes.get(event.id) * LANE, LANE - 4, event.text));
  }
  video.curves.forEach((curve, index) => {
    const y = top + index * (LABEL + CURVE);
    root.append(curveRow(curve, index, own.filter((e) => e.query === index), x, y, width));
  });
  timeline.playhead = shape("line", { class: "playhead", y1: 0, y2: height });
  root.append(timeline.playhead);
  $("timeline").replaceChildren(root);
  markTimeline();
  movePlayhead(timeNow());
  pinLabels();
  showZoom();
  scrub(root, video);
}

/** Draw the timeline `zoom` times as wide as its container, centred on the playhead. */
function zoomTo(zoom) {
  timeline.zoom = Math.min(Math.max(zoom, 1), MAX_ZOOM);
  drawTimeline();
  const box = $("timeline");
  box.scrollLeft = timeline.playhead.getAttribute("x1") - box.clientWidth / 2;
}

function showZoom() {
  $("zoom-shown").textContent = `${timeline.zoom}×`;
  $("zoom-out").disabled = timeline.zoom === 1;
  $("zoom-in").disabled = timeline.zoom === MAX_ZOOM;
}

/** Keep a label at this position of the visible part of the timeline when it is scrolled. */
function pinned(label, at) {
  timeline.pinned.push({ label, at });
  return label;
}

function pinLabels() {
  const left = $("timeline").scrollLeft;
  for (const { label, at } of timeline.pinned) label.setAttribute("x", left + at);
}

/** Assign a lane to each event, so that overlapping events are stacked. */
function inLanes(list) {
  const ends = [];
  const lanes = new Map();
  for (const event of list) {
    let lane = ends.findIndex((end) => end <= event.start);
    if (lane < 0) lane = Math.min(ends.length, MAX_LANES - 1);
    ends[lane] = event.end;
    lanes.set(event.id, lane);
  }
  return lanes;
}

function ruler(duration, x, height) {
  const width = x(duration);
  const step = STEPS.find((seconds) => x(seconds) >= 64) ?? duration;
  const marks = [];
  for (let time = 0; time <= duration; time += step) {
    const near = width - x(time) < 40;
    const label = clock(time).replace(/\.0$/, "");
    marks.push(shape("line", { class: "tick", x1: x(time), x2: x(time), y1: 16, y2: height }));
    marks.push(shape("text", { x: near ? x(time) - 3 : x(time) + 3, y: 12,
      "text-anchor": near && time > 0 ? "end" : "start" }, label));
  }
  return marks;
}

function bar(event, x, y, height, label) {
  const left = x(event.start);
  const width = Math.max(3, x(event.end) - left);
  const kind = event.query === null ? "event" : `event moment hue${event.query % HUES}`;
  const said = `${event.text}, ${clock(event.start)} to ${clock(event.end)}`;
  const group = shape("g", { class: kind, "data-event": event.id, role: "button",
    "aria-label": said }, shape("title", {}, said));
  group.append(shape("rect", { x: left + 0.5, y: y + 0.5, width: Math.max(2, width - 1),
    height: height - 1, rx: 4 }));
  if (label && width > 24) {
    // An inner svg clips text that is too long.
    group.append(shape("svg", { x: left + 6, y, width: width - 10, height },
      shape("text", { class: "inside", x: 0, y: height / 2 + 4 }, label)));
  }
  group.addEventListener("click", () => select(event.id));
  timeline.groups.set(event.id, group);
  return group;
}

function curveRow(curve, index, moments, x, y, width) {
  const row = shape("g", { class: `hue${index % HUES}` });
  const best = Math.max(0, ...moments.map((moment) => moment.score ?? 0));
  const verdict = curve.found
    ? `${counted(moments.length, "moment")}, best ${best.toFixed(2)}`
    : `not found: ${curve.reason}`;
  const { shown } = timeline;
  const room = Math.max(6, Math.floor((shown - verdict.length * CHARACTER - 20) / CHARACTER));
  const base = y + LABEL + CURVE - 6;
  const rise = CURVE - 10;
  const points = curve.times.map((time, i) => `${x(time)},${base - curve.values[i] * rise}`);
  const limit = base - curve.threshold * rise;
  row.append(
    pinned(shape("text", { class: "name", y: y + 17 }, shortened(curve.query, room),
      shape("title", {}, curve.query)), 0),
    pinned(shape("text", { y: y + 17, "text-anchor": "end" }, verdict), shown),
    shape("rect", { class: "lane", x: 0, y: base - rise, width, height: rise, rx: 5 }),
  );
  for (const moment of moments) row.append(bar(moment, x, base - rise, rise, ""));
  if (points.length > 0) {
    const first = x(curve.times[0]);
    const last = x(curve.times[curve.times.length - 1]);
    const outline = points.join(" L");
    row.append(shape("path", { class: "area", d: `M${first},${base} L${outline} L${last},${base}Z`,
      "pointer-events": "none" }));
    row.append(shape("path", { class: "curve", d: `M${outline}`, "pointer-events": "none" }));
  }
  row.append(
    shape("line", { class: "threshold", x1: 0, x2: width, y1: limit, y2: limit,
      "pointer-events": "none" }),
    pinned(shape("text", { y: limit - 3, "text-anchor": "end", "pointer-events": "none" },
      curve.threshold.toFixed(2)), shown - 4),
  );
  return row;
}

function shortened(text, length) {
  const characters = Array.from(text);
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join("")}…`;
}

/** Dim events that the filters hide, and highlight the selected one. */
function markTimeline() {
  const shown = new Set(state.shown);
  for (const [id, group] of timeline.groups) {
    group.classList.toggle("off", !shown.has(id));
    group.classList.toggle("selected", id === state.selected);
  }
}

function movePlayhead(seconds) {
  const at = (seconds / Math.max(videos[state.video].duration, 0.001)) * timeline.width;
  const place = Math.min(Math.max(at, 1), timeline.width - 1);
  timeline.playhead.setAttribute("x1", place);
  timeline.playhead.setAttribute("x2", place);
  const box = $("timeline");
  const inSight = place >= box.scrollLeft && place <= box.scrollLeft + timeline.shown;
  if (!inSight) box.scrollLeft = place - timeline.shown / 2;
}

/** Seek when the timeline is clicked or dragged outside its events. */
function scrub(root, video) {
  const seekTo = (pointer) => {
    const box = root.getBoundingClientRect();
    const share = Math.min(Math.max((pointer.clientX - box.left) / box.width, 0), 1);
    seek(share * video.duration);
  };
  root.addEventListener("pointerdown", (pointer) => {
    if (pointer.button !== 0 || pointer.target.closest(".event")) return;
    root.setPointerCapture(pointer.pointerId);
    seekTo(pointer);
  });
  root.addEventListener("pointermove", (pointer) => {
    if (root.hasPointerCapture(pointer.pointerId)) seekTo(pointer);
  });
}
