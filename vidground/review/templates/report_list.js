// The list of events or videos, its filters and pages, keyboard shortcuts, and startup.

function showList() {
  const videosTab = state.tab === "videos";
  const counts = videosTab ? countsByVideo() : [];
  const rows = videosTab
    ? videos.map((_, index) => index).filter((index) => counts[index] > 0 || !filtering())
    : state.shown;
  const pages = Math.max(1, Math.ceil(rows.length / PAGE));
  state.page = Math.min(state.page, pages - 1);
  const visible = rows.slice(state.page * PAGE, (state.page + 1) * PAGE);
  const make = videosTab ? (index) => videoRow(index, counts[index]) : eventRow;
  $("list").replaceChildren(...visible.map((item) => element("li", {}, make(item))));
  $("list").scrollTop = 0;
  showStatus(rows.length, videosTab);
  showPager(pages);
  showTime();
}

function filtering() {
  return state.words.length > 0 || state.score > 0;
}

function showStatus(count, videosTab) {
  const all = state.scope === null || videosTab
    ? (videosTab ? videos.length : events.length)
    : videos[state.scope].events.length;
  const noun = videosTab ? "video" : "event";
  $("status").textContent = count === all
    ? counted(all, noun)
    : `${count.toLocaleString("en")} of ${counted(all, noun)}`;
  $("scope").hidden = state.scope === null || videosTab;
  const name = state.scope === null ? "" : videos[state.scope].name;
  $("scope").replaceChildren(element("bdi", {}, name), "✕");
  $("tab-events").setAttribute("aria-selected", String(!videosTab));
  $("tab-videos").setAttribute("aria-selected", String(videosTab));
}

function showPager(pages) {
  $("pager").hidden = pages === 1;
  $("page-shown").textContent = `Page ${state.page + 1} of ${pages}`;
  $("page-first").disabled = $("page-back").disabled = state.page === 0;
  $("page-last").disabled = $("page-on").disabled = state.page === pages - 1;
  $("pager").dataset.pages = pages;
}

function eventRow(id) {
  const event = events[id];
  const meta = element("span", { class: "meta" },
    element("span", { class: "time" }, `${clock(event.start)} – ${clock(event.end)}`));
  if (event.query !== null) meta.append(element("span", { class: "tag" }, "query"));
  if (event.score !== null) meta.append(meter(event.score));
  const body = element("span", { class: "body" }, meta,
    element("span", { class: "text", dir: "auto" }, event.text));
  if (videos.length > 1 && state.scope === null) {
    body.append(element("span", { class: "from", dir: "auto" }, videos[event.owner].name));
  }
  const hue = event.query === null ? "" : ` hue${event.query % HUES}`;
  const row = element("button", { type: "button", class: `row${hue}`, "data-event": id },
    thumbnail(event), body);
  row.classList.toggle("selected", id === state.selected);
  row.addEventListener("click", () => select(id));
  return row;
}

function thumbnail(event) {
  if (!event.picture) return element("span", {});
  const picture = element("img", { alt: "", loading: "lazy", decoding: "async" });
  picture.src = `data:image/jpeg;base64,${event.picture}`;
  return picture;
}

function meter(score) {
  const fill = shape("rect", { width: score * 100, height: 10 });
  return element("span", { class: "meter", title: "Score: mean relevance of its frames" },
    shape("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none" }, fill), score.toFixed(2));
}

function videoRow(index, count) {
  const video = videos[index];
  const strip = shape("svg", { class: "strip", viewBox: "0 0 1000 10", preserveAspectRatio: "none" });
  for (const event of video.events) {
    const scale = 1000 / Math.max(video.duration, 0.001);
    strip.append(shape("rect", { x: event.start * scale, y: 0, height: 10,
      width: Math.max(4, (event.end - event.start) * scale) }));
  }
  const row = element("button", { type: "button", class: "row video", "data-video": index },
    element("span", { class: "body" },
      element("span", { class: "text", dir: "auto" }, video.name), strip,
      element("span", { class: "meta" }, `${clock(video.duration)} · ${counted(count, "event")}`,
        ...(video.link === null ? [" · file not found"] : []))));
  row.classList.toggle("selected", index === state.video);
  row.addEventListener("click", () => {
    state.scope = index;
    state.tab = "events";
    showVideo(index);
    refilter();
  });
  return row;
}

/** Show the page that an event is on, and highlight its row. */
function showRow(id) {
  const place = state.shown.indexOf(id);
  const page = Math.floor(place / PAGE);
  if (place >= 0 && (state.tab !== "events" || page !== state.page)) {
    state.tab = "events";
    state.page = page;
    showList();
  }
  for (const row of $("list").querySelectorAll("[data-event]")) {
    const own = Number(row.dataset.event) === id;
    row.classList.toggle("selected", own);
    if (own) row.scrollIntoView({ block: "nearest" });
  }
}

function refilter() {
  state.words = folded($("search").value).split(/\s+/).filter(Boolean);
  state.score = Number($("score").value);
  $("score-shown").textContent = state.score.toFixed(2);
  state.page = 0;
  filter();
  showList();
  markTimeline();
}

function turnTo(page) {
  state.page = page;
  showList();
}

const KEYS = {
  j: () => select(neighbour(1)), ArrowDown: () => select(neighbour(1)),
  k: () => select(neighbour(-1)), ArrowUp: () => select(neighbour(-1)),
  " ": togglePlay,
  ArrowLeft: () => seek(Math.max(0, timeNow() - 5)),
  ArrowRight: () => seek(Math.min(videos[state.video].duration, timeNow() + 5)),
  "+": () => zoomTo(timeline.zoom * 2), "=": () => zoomTo(timeline.zoom * 2),
  "-": () => zoomTo(timeline.zoom / 2),
  "/": () => $("search").select(),
  "?": () => $("help").showModal(),
};

function onKey(press) {
  if (press.ctrlKey || press.altKey || press.metaKey || $("help").open) return;
  if (press.target.closest("input")) {
    if (press.key === "Escape") press.target.blur();
    return;
  }
  const action = Object.hasOwn(KEYS, press.key) ? KEYS[press.key] : null;
  if (!action) return;
  press.preventDefault();
  action();
}

function nextTheme() {
  const themes = ["system", "dark", "light"];
  const now = document.documentElement.dataset.theme ?? "system";
  const next = themes[(themes.indexOf(now) + 1) % themes.length];
  document.documentElement.dataset.theme = next;
  $("theme").textContent = `Theme: ${next}`;
}

function start() {
  $("counts").textContent = `${counted(videos.length, "video")} · ${counted(events.length, "event")}`;
  $("tabs").hidden = videos.length === 1;
  for (const name of ["search", "score"]) $(name).addEventListener("input", refilter);
  for (const tab of ["events", "videos"]) {
    $(`tab-${tab}`).addEventListener("click", () => { state.tab = tab; turnTo(0); });
  }
  $("scope").addEventListener("click", () => { state.scope = null; refilter(); });
  $("page-first").addEventListener("click", () => turnTo(0));
  $("page-back").addEventListener("click", () => turnTo(state.page - 1));
  $("page-on").addEventListener("click", () => turnTo(state.page + 1));
  $("page-last").addEventListener("click", () => turnTo($("pager").dataset.pages - 1));
  $("help-button").addEventListener("click", () => $("help").showModal());
  $("theme").addEventListener("click", nextTheme);
  $("zoom-in").addEventListener("click", KEYS["+"]);
  $("zoom-out").addEventListener("click", KEYS["-"]);
  $("timeline").addEventListener("scroll", pinLabels);
  // Capture, to precede the player's own shortcuts, which use other steps.
  document.addEventListener("keydown", onKey, true);
  startPlayer();
  showVideo(0);
  refilter();
}

start();
