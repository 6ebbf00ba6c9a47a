"use strict";
// The report's data and what is shown of it. Captions, queries and file names are untrusted: they
// reach the page as text nodes and attribute values only, never as markup.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const PAGE = 50;
const HUES = 6;

const videos = JSON.parse($("data").textContent).videos;
/** Every event of every video, in order; `id` is its index in this list. */
const events = videos.flatMap((video, owner) =>
  video.events.map((event) => ({ ...event, owner, words: folded(`${event.text} ${video.name}`) })),
);
events.forEach((event, id) => { event.id = id; });

/** scope: index of the only video to list, or null for all. shown: ids of events that pass the
 *  filters. */
const state = {
  words: [], score: 0, scope: null, tab: "events", page: 0,
  video: 0, selected: null, shown: events.map((event) => event.id),
};

function folded(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

function passes(event) {
  const scored = state.score === 0 || (event.score !== null && event.score >= state.score);
  return scored && state.words.every((word) => event.words.includes(word));
}

function filter() {
  state.shown = events
    .filter((event) => (state.scope === null || event.owner === state.scope) && passes(event))
    .map((event) => event.id);
}

/** Number of events of each video that pass the filters, ignoring the scope. */
function countsByVideo() {
  const counts = videos.map(() => 0);
  for (const event of events) if (passes(event)) counts[event.owner] += 1;
  return counts;
}

/** Id of the event `step` positions after the selected one in the list; null past either end. */
function neighbour(step) {
  const place = state.shown.indexOf(state.selected);
  if (place >= 0) return state.shown[place + step] ?? null;
  return (step > 0 ? state.shown[0] : state.shown[state.shown.length - 1]) ?? null;
}

function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function shape(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Format seconds as 1:02:03.4; rounds only once. */
function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const whole = Math.floor(tenths / 10);
  const pad = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const start = hours > 0 ? `${hours}:${pad(minutes)}` : `${minutes}`;
  return `${start}:${pad(whole % 60)}.${tenths % 10}`;
}

function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
