// The player: its file, its position, and what to show if it cannot play.

/** chosen: URLs of files that the reader chose, by video. pending: seconds to seek to once the
 *  video is loaded, or null. time: the last position, which is used if no file is loaded. */
const playing = { chosen: new Map(), pending: null, time: 0 };

function showVideo(index) {
  const video = videos[index];
  const player = $("player");
  state.video = index;
  Object.assign(playing, { pending: null, time: 0 });
  timeline.zoom = 1;
  $("video-name").textContent = video.name;
  $("video-name").title = video.path;
  $("message").hidden = true;
  $("file").value = "";
  const address = playing.chosen.get(index) ?? video.link;
  if (address === null) {
    player.removeAttribute("src");
    player.load();
    showMessage(`${video.path} was not found when this report was made. Its results are shown; `
      + "to play it, choose the file.");
  } else {
    player.src = address;
  }
  showDetails(video);
  drawTimeline();
  showTime();
}

function showDetails(video) {
  $("facts").replaceChildren(...[["Video", video.path], ...video.facts].flatMap(
    ([name, value]) => [element("dt", {}, name), element("dd", {}, value)],
  ));
  const answers = video.curves.flatMap((curve) => [
    element("dt", {}, "Answer"), element("dd", {}, `${curve.query}: ${curve.answer}`),
  ]);
  $("facts").append(...answers);
  $("notes").replaceChildren(...video.notes.map((note) => element("li", { dir: "auto" }, note)));
  $("note-count").textContent = counted(video.notes.length, "note");
  $("note-count").hidden = video.notes.length === 0;
}

function seek(seconds) {
  const player = $("player");
  if (player.readyState >= HTMLMediaElement.HAVE_METADATA) {
    player.currentTime = seconds;
  } else {
    playing.pending = seconds;
  }
  showTime(seconds);
}

/** Show an event: its video, its time, its row. */
function select(id) {
  if (id === null) return;
  const event = events[id];
  state.selected = id;
  if (event.owner !== state.video) showVideo(event.owner);
  seek(event.start);
  markTimeline();
  showRow(id);
}

function timeNow() {
  const player = $("player");
  return player.readyState >= HTMLMediaElement.HAVE_METADATA ? player.currentTime : playing.time;
}

function showTime(seconds = timeNow()) {
  const video = videos[state.video];
  playing.time = seconds;
  $("clock").textContent = `${clock(seconds)} / ${clock(video.duration)}`;
  movePlayhead(seconds);
  const current = new Set(events
    .filter((e) => e.owner === state.video && e.start <= seconds && seconds < e.end)
    .map((e) => e.id));
  const texts = new Set(Array.from(current, (id) => events[id].text));
  $("now").replaceChildren(...Array.from(texts, (text) => element("bdi", {}, text)));
  for (const [id, group] of timeline.groups) group.classList.toggle("now", current.has(id));
  for (const row of $("list").querySelectorAll("[data-event]")) {
    row.classList.toggle("now", current.has(Number(row.dataset.event)));
  }
}

function togglePlay() {
  const player = $("player");
  if (!player.paused) player.pause();
  else if (player.hasAttribute("src")) player.play().catch(() => {}); // reported by "error"
}

function showMessage(text) {
  $("message-text").textContent = text;
  $("message").hidden = false;
}

function cannotPlay(what) {
  const video = videos[state.video];
  if (!$("player").hasAttribute("src")) return;
  showMessage(`This browser cannot ${what} ${video.path} (${video.codec}), or the file has moved. `
    + "Open it in another player, or choose a copy in another format.");
}

function startPlayer() {
  const player = $("player");
  player.addEventListener("loadedmetadata", () => {
    if (player.videoWidth === 0) cannotPlay("show the picture of");
    if (playing.pending !== null) player.currentTime = playing.pending;
    playing.pending = null;
  });
  player.addEventListener("error", () => cannotPlay("play"));
  for (const name of ["timeupdate", "seeking", "seeked"]) {
    player.addEventListener(name, () => {
      if (playing.pending === null) showTime();
    });
  }
  $("next").addEventListener("click", () => select(neighbour(1)));
  $("previous").addEventListener("click", () => select(neighbour(-1)));
  $("file").addEventListener("change", () => {
    const file = $("file").files[0];
    if (!file) return;
    const video = videos[state.video];
    const time = playing.pending;
    playing.chosen.set(state.video, URL.createObjectURL(file));
    showVideo(state.video);
    playing.pending = time;
    if (file.size !== video.bytes) {
      $("notes").append(element("li", {}, "The chosen file differs in size from the video of these "
        + "results; times may not match."));
      $("details").open = true;
    }
  });
  new ResizeObserver(() => {
    if ($("timeline").clientWidth !== timeline.shown) drawTimeline();
  }).observe($("timeline"));
}
