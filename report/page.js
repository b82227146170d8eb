"use strict";
// Draws the page from the JSON in #data, which report/page.py writes. No framework.

const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const KINDS = data.kinds.map(([word, hint]) => ({word, hint, style: word.replaceAll(" ", "-")}));
const [HIT, DOUBLE, SHIFTED, WRONG, CONFUSED, BACKGROUND, IGNORED, PLAIN] = KINDS.keys();
const NONE = data.classes.length;              // in place of a class: no segment, no detection
const LENGTHS = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, Infinity];         // seconds
const state = {
  label: null, only: null, least: 0,           // chosen class; {words, has(video)}; lowest score
  shown: [], at: 0,                            // the videos in the list; place of the open one
  lam: 0, gamma: 0, moved: false, curves: new Set("L"),
  zoom: 1, from: 0, row: 0, cursor: 0, time: 0,          // from, cursor and playhead in seconds
  files: null, url: null,                      // files by lower-case stem; address of the open one
};
let view = null;                               // one method under one protocol, see `look`
let drawn = null;                              // the timeline, see `drawTimeline`

// --------------------------------------------------------------------------- words and markup

function m(parts, ...values) {                 // markup; what is put in is escaped if it is none
  const plain = value => {
    if (Array.isArray(value)) return value.map(plain).join("");
    return value?.markup ?? `${value ?? ""}`.replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`);
  };
  return {markup: String.raw({raw: parts}, ...values.map(plain))};
}

function put(id, {markup}) {
  $(id).innerHTML = markup;
}

function rect(x, y, width, height, style, hint = "") {
  const title = hint && m`<title>${hint}</title>`;
  return m`<rect x="${x}" y="${y}" width="${width}" height="${height}" class="${style}">${
    title}</rect>`;
}

function line(x1, y1, x2, y2, style) {
  return m`<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" class="${style}"/>`;
}

function text(words, x, y, anchor = "start", style = "") {
  return m`<text x="${x}" y="${y}" text-anchor="${anchor}" class="${style}">${words}</text>`;
}

// small pictures beside a word
const sample = inside => m`<svg width="24" height="12" aria-hidden="true">${inside}</svg>`;
const swatch = style => sample(rect(1, 1, 22, 10, `kind-${style}`));
const stroke = style => sample(line(1, 6, 23, 6, style));

function bar(parts, most, hint = "") {         // parts: [number, style]; most: the whole width
  let x = 0;
  const rects = parts.filter(([n]) => n).map(([n, style]) => {
    x += 100 * n / most;
    return rect(`${x - 100 * n / most}%`, 1, `${100 * n / most}%`, 12, `kind-${style}`, hint);
  });
  return m`<svg class="bar" width="100%" height="14">${rects}</svg>`;
}

function tableRow([first, ...cells], attributes = "") {
  const rest = cells.map(cell => m`<td>${cell}</td>`);
  return m`<tr ${attributes}><th scope="row">${first}</th>${rest}</tr>`;
}

function tableHead(...cells) {
  return m`<thead><tr>${cells.map(cell => m`<th>${cell}</th>`)}</tr></thead>`;
}

const canvas = document.createElement("canvas").getContext("2d");

function widest(words) {                       // pixels of the longest of these texts in a figure
  canvas.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  return Math.max(0, ...words.map(word => canvas.measureText(word).width));
}

// The data are rounded already, by page.py, to the digits that these functions show.
const breakable = name => name.split(/(?<=_)/).map(part => m`${part}<wbr>`);
const percent = value => value === null ? "–" : value.toFixed(1);
const seconds = t => `${+t.toFixed(3)} s`;
const short = value => +value.toFixed(4);
const number = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const sum = values => values.reduce((total, value) => total + value, 0);
const count = (values, test) => values.filter(test).length;
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function range(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

function steps(low, high, wanted) {            // about `wanted` round numbers in [low, high]
  const rough = (high - low) / wanted || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(factor => factor * power >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9), n = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({length: n}, (_, k) => +((first + k) * step).toPrecision(12));
}

// ------------------------------------------------------------------ the equations of localize

function fuse(q, p, lam) {                     // Eq. 9: L[t] = lambda * Q[t] + (1 - lambda) * P[t]
  return q.map((value, t) => lam * value + (1 - lam) * p[t]);
}

function threshold(l, gamma) {                 // Sec. 3.5: mean(L) + gamma * (max(L) - min(L))
  const [low, high] = range(l);
  return clamp(sum(l) / l.length, low, high) + gamma * (high - low);
}

function runs(l, level) {                      // maximal runs of clips with L > level: [start, end)
  const found = [];
  for (let t = 0; t < l.length; t++) {
    if (!(l[t] > level)) continue;
    if (t > 0 && l[t - 1] > level) found.at(-1)[1] = t + 1;
    else found.push([t, t + 1]);
  }
  return found;
}

function times(clips, [step, window], duration = Infinity) {
  return clips.map(t => clamp(t * step + (window - step) / 2, 0, duration));
}

function proposals(video, c, l, level) {       // the runs, scored by the mean of L
  const found = runs(l, level).map(run => {
    const [start, end] = times(run, video.w, video.s);
    return {c, start, end, score: sum(l.slice(...run)) / (run[1] - run[0])};
  });
  return found.filter(({start, end}) => end > start);
}

function unpack(packed, [low, high] = [0, 1]) {          // base64 of uint16 -> scores
  const bytes = Uint8Array.from(atob(packed), c => c.charCodeAt(0));
  const values = new DataView(bytes.buffer), n = bytes.length / 2;
  return Array.from({length: n}, (_, t) => low + (high - low) * values.getUint16(2 * t, true) / 65535);
}

function scoresOf(video, row) {                // {L, levels, Q, P}; no Q and P of other methods
  if (!row.y) return null;
  if (!video.q) return {L: unpack(row.y, row.x), levels: row.l};
  const Q = unpack(video.q), P = unpack(row.y), L = fuse(Q, P, state.lam);
  const gammas = state.moved ? [state.gamma] : view.method.rule.gammas;
  return {L, levels: gammas.map(gamma => threshold(L, gamma)), Q, P};
}

// ---------------------------------------- hits and errors in one video, those of eval_detection

// Gives each of `found` its kind. truth: segments of all classes; ambiguous: [start, end]; known:
// classes with a segment in any video.
function judge(found, truth, ambiguous, known, tiou, protocol) {
  const thumos = protocol !== "activitynet";
  const overlap = (a, b) => {                  // tIoU, to the last bit as there
    const shared = Math.min(a.end, b.end) - Math.max(a.start, b.start);
    const lengths = b.end - b.start + (a.end - a.start) - shared;
    const extent = Math.max(a.end, b.end) - Math.min(a.start, b.start);
    return shared > 0 ? shared / (thumos ? extent : lengths) : 0;
  };
  const enough = value => thumos ? value > tiou : value >= tiou;
  const order = [...found].sort((a, b) => b.score - a.score), free = new Set([...found, ...truth]);
  const [choosers, chosen] = thumos ? [truth, order] : [order, truth];
  for (const one of choosers) {                // each takes the free one that it overlaps most
    let [best, most] = [null, 0];
    for (const other of chosen.filter(other => other.c === one.c && free.has(other))) {
      const value = overlap(one, other), more = value > most || value === most && !thumos;
      if (enough(value) && more) [best, most] = [other, value];
    }
    if (best) [one, best].forEach(taken => free.delete(taken));
  }
  return found.map(one => {
    let [most, own] = [0, false];              // the largest overlap; with a segment of its class
    for (const segment of truth) {
      const value = overlap(one, segment), same = segment.c === one.c;
      if (value > most || value === most && same) [most, own] = [value, same];
    }
    const forgiven = thumos && ambiguous.some(([start, end]) => overlap(one, {start, end}));
    let kind = BACKGROUND;
    if (!known.has(one.c)) kind = PLAIN;
    else if (!free.has(one)) kind = HIT;
    else if (forgiven) kind = IGNORED;
    else if (enough(most)) kind = own ? DOUBLE : WRONG;
    else if (most >= 0.1) kind = own ? SHIFTED : CONFUSED;
    return {...one, kind};
  });
}

// ------------------------------------------------------------------------------- what is shown

function look() {                              // at one method under one protocol
  const method = data.methods[$("method").value], protocol = $("protocol").value;
  const judged = method.protocols[protocol], at = state.shown[state.at]?.n;
  const videos = data.videos.map((one, k) => videoOf(one, method.videos[k], judged?.videos[k]));
  const found = videos.flatMap(video => video.found), truth = videos.flatMap(video => video.truth);
  const scores = found.length ? range(found.map(one => one.score)) : [0, 0];
  const known = new Set(judged?.ap.filter(([, , n]) => n).map(([c]) => c));
  view = {method, protocol, judged, videos, found, truth, known, scores};
  Object.assign(state, {lam: method.rule.lam, gamma: method.rule.gammas[0], moved: false});
  for (const table of document.querySelectorAll(".map")) {
    table.hidden = table.dataset.protocol !== protocol;
  }
  drawLegend();
  drawSweep();
  drawWorst();
  show({only: null}, at);
}

// n name, s seconds, w step and window of a clip, a ambiguous segments, q Q, r rows with a curve,
// h classes without one, as in page.py
function videoOf(video, method, judged) {
  const [ap, kinds, hits, others] = judged ?? [null, "", "", []];
  let next = 0;
  const found = method.d.map(([c, start, end, score], k) => {
    const kind = judged ? +kinds[k] : PLAIN, wrong = kind === WRONG || kind === CONFUSED;
    const of = wrong ? others[next++] : kind === BACKGROUND ? NONE : c;
    return {c, start, end, score, kind, of};
  });
  const truth = video.t.map(([c, start, end], k) => ({c, start, end, found: hits[k] === "1"}));
  return {...video, ...method, ap, truth, found, missed: count(truth, one => !one.found)};
}

function show(change, at) {                    // a class, some videos; at: name of the open video
  Object.assign(state, change);
  $("class").value = state.label ?? "";
  drawCounts();
  filter(at);
}

function drawWorst() {
  const worst = view.videos.filter(video => video.ap !== null).sort(ORDERS["AP, worst first"]);
  const links = worst.slice(0, 3).map(video => m`<a href="#videos" data-do="open" data-of="${
    view.videos.indexOf(video)}">${video.n}</a> (AP ${percent(video.ap)}, missed ${
    video.missed} of ${video.truth.length}), `);
  put("worst", m`Worst videos: ${links}<a href="#videos">all, worst first</a>`);
  $("worst").hidden = !links.length;
}

function drawCounts() {                        // what depends on the class and the lowest score
  const [low, high] = view.scores, wide = (high - low) / 10 || 1;
  state.least = low + $("least").value / 200 * (high - low);
  const kept = view.found.filter(({score}) => score >= state.least);
  const counts = data.classes.map(() => KINDS.map(() => 0));
  const confused = [...data.classes, ""].map(() => [...data.classes, ""].map(() => 0));
  for (const one of kept) {
    counts[one.c][one.kind] += 1;
    if (one.kind <= BACKGROUND) confused[one.of][one.c] += 1;
  }
  for (const one of view.truth) confused[one.c][NONE] += !one.found;
  drawClasses(counts);
  drawKinds(counts);
  $("left").replaceChildren();
  $("right").replaceChildren();
  const length = one => one.end - one.start;
  if (view.judged) {
    drawConfusion(confused);
    drawBins("right", "Segments found, by length", view.truth, LENGTHS, " s", length);
  } else {
    const edges = Array.from({length: 11}, (_, k) => +(low + k * wide).toFixed(3));
    drawBins("left", "Scores", kept, edges, "", one => Math.min(one.score, edges[9]));
    drawBins("right", "Lengths of the detections", kept, LENGTHS, " s", length);
  }
}

const chosen = one => state.label === null || one.c === state.label;

function drawClasses(counts) {
  const {judged, method, videos, truth} = view, most = Math.max(...counts.map(sum), 1);
  const row = (c, ...cells) => {
    const words = KINDS.map(({word}, kind) => counts[c][kind] && `${counts[c][kind]} ${word}`);
    const parts = KINDS.map(({style}, kind) => [counts[c][kind], style]);
    const picture = sum(counts[c]) ? bar(parts, most, words.filter(Boolean).join(", "))
      : m`<small>no detection</small>`;
    return tableRow([breakable(data.classes[c]), ...cells, picture], m`data-do="label" data-of="${c}" class="${
      c === state.label ? "chosen" : ""}"`);
  };
  let order, head, rows;
  if (judged) {
    order = [...judged.ap].sort((a, b) => (a[1] ?? 101) - (b[1] ?? 101));
    head = tableHead("class", `AP@${judged.tiou}`, "found", "detections by kind");
    rows = order.map(([c, ap, n]) => row(
      c, percent(ap), `${count(truth, one => one.c === c && one.found)} of ${n}`));
  } else {
    order = counts.map((row, c) => [c, sum(row)]).filter(([, n]) => n).sort((a, b) => b[1] - a[1]);
    head = tableHead("class", "detections", "videos", "");
    rows = order.map(([c, n]) => row(
      c, n, count(videos, video => video.found.some(one => one.c === c))));
  }
  view.order = order.map(([c]) => c);
  $("classhead").textContent = `${method.label}: classes, ${judged ? "worst" : "most"} first`;
  put("classes", m`${head}<tbody>${rows}</tbody>`);
}

function drawKinds(counts) {
  const {judged, found} = view;
  const totals = KINDS.map((_, kind) => sum(counts.map((row, c) => chosen({c}) ? row[kind] : 0)));
  const total = sum(totals), of = state.label === null ? "" : ` of ${data.classes[state.label]}`;
  $("kindhead").textContent = `Detections${of}`;
  $("leastvalue").textContent = `${state.least.toFixed(3)}: ${total} of ${
    number(count(found, chosen), "detection")}`;
  if (!judged) return;
  const place = judged.ap.findIndex(([c]) => c === state.label), one = place >= 0;
  const rows = KINDS.map(({word, hint, style}, kind) => {
    const [map, gain, classes] = judged.costs[word] ?? [];
    const cost = one ? classes?.[place] ?? null : map ?? null;
    const without = cost === null ? "" : percent(cost) + (one ? "" : ` (+${percent(gain)})`);
    const n = `${totals[kind]} (${Math.round(100 * totals[kind] / (total || 1))}%)`;
    return tableRow([m`${swatch(style)} ${word}<small>${hint}</small>`, n, without]);
  }).filter((_, kind) => totals[kind] || kind < IGNORED);
  const name = one ? "AP" : "mAP", now = one ? judged.ap[place][1] : judged.map;
  const head = tableHead(`at tIoU ${judged.tiou}`, "number", `${name} without`);
  put("kinds", m`${head}<tbody>${rows}</tbody>`);
  $("kindnote").textContent = `Enough overlap: tIoU ${judged.tiou}. ${name} is ${percent(now)}; ` +
    "without: if the detections of that kind, of any score, were taken away (as in DETAD).";
}

// A titled box with a figure, drawn by draw(width) now and whenever its width changes.
function figure(id, title, note, draw, legend = []) {
  const box = document.createElement("figure"), area = document.createElement("div");
  box.innerHTML = m`<figcaption><button type="button">Save SVG</button><strong>${title}</strong>
    <span>${note}</span></figcaption><p class="legend">${
    legend.map(part => m`<span>${part}</span>`)}</p>`.markup;
  box.append(area);
  $(id).append(box);
  const update = () => {
    if (area.clientWidth) area.innerHTML = draw(area.clientWidth).markup;
  };
  new ResizeObserver(update).observe(area);
  update();
  box.querySelector("button").addEventListener("click", () => saveSvg(
    area.firstChild, title, note, box.querySelectorAll(".legend span")));
}

function drawConfusion(confused) {
  const order = [...view.order.filter(c => view.known.has(c)), NONE];
  const [rows, columns] = ["no segment", "missed"].map(
    last => order.map(c => data.classes[c] ?? last));
  const note = "rows: true class, columns: class of the detections that overlap it by tIoU 0.1 or more, " +
    "hits and shifted ones alike; a click shows the videos";
  figure("left", "Which class is taken for which", note, width => {
    const left = widest(rows) + 8, top = widest(columns) + 8;
    const wide = clamp((width - left - 2) / order.length, 5, 52), high = Math.min(wide, 18);
    const cells = order.map((of, row) => order.map((c, column) => {
      const n = confused[of][c], share = 0.1 + 0.75 * n / sum(confused[of]);
      const x = left + column * wide, y = top + row * high, style = of === c ? "own" : "other";
      return n ? m`<g data-do="cell" data-of="${of},${c}"><g fill-opacity="${share}">${
        rect(x, y, wide, high, `cell cell-${style}`, `${wordsOf(of, c)}: ${n}`)}</g>${
        wide > 17 ? text(n, x + wide / 2, y + high / 2 + 4, "middle") : ""}</g>` : "";
    }));
    return m`<svg width="${width}" height="${top + order.length * high + 2}" role="img"
      aria-label="Confusion of classes">${cells}${
      rows.map((name, k) => text(name, left - 5, top + (k + 0.5) * high + 4, "end"))}${
      columns.map((name, k) => m`<g transform="translate(${left + (k + 0.5) * wide + 4} ${top - 4})
        rotate(-90)">${text(name, 0, 0)}</g>`)}</svg>`;
  });
}

function wordsOf(of, c) {
  if (c === NONE) return `${data.classes[of]} missed`;
  return `${data.classes[c]} found where ${data.classes[of] ?? "no segment"} is`;
}

function showCell(of, c) {                     // the videos behind a cell of the confusion
  const counted = one => one.kind <= BACKGROUND && one.of === of && one.c === c;
  const has = c === NONE ? video => video.truth.some(one => one.c === of && !one.found)
    : video => video.found.some(one => counted(one) && one.score >= state.least);
  show({only: {words: wordsOf(of, c), has}});
  $("videos").scrollIntoView();
}

function drawBins(id, title, items, edges, unit, valueOf) {    // how many lie between two edges
  const bins = edges.slice(1).map((high, k) => {
    const low = edges[k], upto = high === Infinity ? `${unit} and more` : ` to ${high}${unit}`;
    const own = items.filter(one => chosen(one) && valueOf(one) >= low && valueOf(one) < high);
    return [`${low}${upto}`, count(own, one => one.found), own.length];
  });
  const most = Math.max(...bins.map(([, , n]) => n), 1), last = bins.findLastIndex(([, , n]) => n);
  const first = bins.findIndex(([, , n]) => n), rows = bins.slice(Math.max(first, 0), last + 1);
  const of = state.label === null ? "" : `of ${data.classes[state.label]}`;
  const cells = ([name, found, n]) => {
    if (!view.judged) return [name, n, bar([[n, "not-scored"]], most)];
    const share = n ? ` (${Math.round(100 * found / n)}%)` : "";
    return [name, `${found} of ${n}${share}`, bar([[found, "truth"], [n - found, "missed"]], most)];
  };
  $(id).insertAdjacentHTML("beforeend", m`<h2>${title} <small>${of}</small></h2><table>${
    rows.map(row => tableRow(cells(row)))}</table>`.markup);
}

// -------------------------------------------------------------------------------- the list

const names = new Intl.Collator(undefined, {numeric: true});
const ORDERS = {
  "AP, worst first": (a, b) => (a.ap ?? 101) - (b.ap ?? 101) || b.missed - a.missed,
  "AP, best first": (a, b) => (b.ap ?? -1) - (a.ap ?? -1),
  "missed segments": (a, b) => b.missed - a.missed,
  "detections": (a, b) => b.found.length - a.found.length,
  "name": (a, b) => names.compare(a.n, b.n),
};

function clipsOf(video) {
  return atob(video.q || video.r.find(row => row.y)?.y || "").length / 2;
}

function spanOf(video) {                       // seconds; ground truth may end after the video
  const n = clipsOf(video), covered = n ? times([n], video.w) : [];
  return range([video.s, ...covered, ...video.truth.map(one => one.end)])[1];
}

function filter(at = state.shown[state.at]?.n) {         // at: name of the video to open
  const wanted = $("search").value.toLowerCase(), {only, label} = state;
  const has = only?.has ?? (video => label === null || [...video.truth, ...video.found].some(chosen));
  state.shown = view.videos.filter(video => video.n.toLowerCase().includes(wanted) && has(video))
    .sort(ORDERS[$("sort").value]);
  $("count").textContent = `${state.shown.length} of ${view.videos.length}`;
  $("only").hidden = !only;
  $("onlywords").textContent = only?.words ?? "";
  put("list", state.shown.length ? m`${state.shown.map(listRow)}` : m`<p>No video matches.</p>`);
  for (const row of $("list").querySelectorAll("[data-of]")) strips.observe(row);
  select(Math.max(state.shown.findIndex(video => video.n === at), 0));
}

function listRow(video, k) {
  const facts = view.judged ? `AP ${percent(video.ap)} · ${video.missed} of ${video.truth.length} missed`
    : number(video.found.length, "detection");
  const there = fileOf(video) ? m` <b title="its file is there">▶</b>` : "";
  return m`<div role="option" data-do="select" data-of="${k}" title="${video.n}">
    <span class="name"><bdi dir="ltr">${video.n}${there}</bdi></span><i></i><span
    class="facts">${facts}</span></div>`;
}

const strips = new IntersectionObserver(rows => {         // drawn when one scrolls to them
  for (const {target} of rows.filter(row => row.isIntersecting)) {
    target.querySelector("i").innerHTML = strip(state.shown[target.dataset.of], 200).markup;
    strips.unobserve(target);
  }
});

function strip(video, width) {                 // ground truth above, detections below, hits on top
  const span = spanOf(video), x = t => +(t / span * width).toFixed(1), paths = new Map();
  const add = (style, y, {start, end}) => paths.set(style, `${paths.get(style) ?? ""}M${x(start)} ${
    y}H${x(end)}v4H${x(start)}z`);
  for (const one of thin(video.truth, x, width)) add(one.found ? "truth" : "missed", 0, one);
  for (const one of thin(video.found, x, width).sort((a, b) => b.kind - a.kind)) {
    add(KINDS[one.kind].style, 6, one);
  }
  return m`<svg viewBox="0 0 ${width} 10" preserveAspectRatio="none" aria-hidden="true">${
    [...paths].map(([style, path]) => m`<path d="${path}" class="strip kind-${style}"/>`)}</svg>`;
}

function thin(segments, x, width) {            // of very many, one of a kind to a pixel
  if (segments.length < 4 * width) return [...segments];
  const last = {};
  return [...segments].sort((a, b) => a.start - b.start).filter(({end, kind, found}) => {
    const key = kind ?? found, right = Math.ceil(x(end)), seen = right > (last[key] ?? -1);
    if (seen) last[key] = right;
    return seen;
  });
}

function select(at) {
  const list = $("list");
  list.querySelector("[aria-selected]")?.removeAttribute("aria-selected");
  state.at = clamp(at, 0, Math.max(state.shown.length - 1, 0));
  const row = list.children[state.at], above = row.offsetTop + row.offsetHeight - list.clientHeight;
  row.setAttribute("aria-selected", "true");
  list.scrollTop = clamp(list.scrollTop, above, row.offsetTop);
  showVideo();
}

// ------------------------------------------------------------------------------- one video

function showVideo() {
  const video = state.shown[state.at];
  $("detail").hidden = !video;
  if (!video) return;
  Object.assign(state, {row: 0, cursor: 0, time: 0, zoom: 1, from: 0});
  const [step, window] = video.w.map(seconds), facts = [seconds(video.s)], n = clipsOf(video);
  if (n) facts.push(`${number(n, "clip")} of ${window}${step === window ? "" : ` every ${step}`}`);
  if (view.judged) {
    facts.push(`AP ${percent(video.ap)}% at tIoU ${view.judged.tiou}`,
               `missed ${video.missed} of ${number(video.truth.length, "segment")}`);
  }
  facts.push(number(video.found.length, "detection"));
  if (video.h) facts.push(`${video.h} more classes are not shown`);
  $("name").textContent = video.n;
  $("facts").textContent = facts.join(" · ");
  $("readout").textContent = "Point at the timeline for numbers; click to seek.";
  history.replaceState(null, "", "#" + encodeURIComponent(video.n));
  loadFile();
  drawTimeline();
}

const GUTTER = 84, RIGHT = 10, CURVE = 76, LANE = 17, HEAD = 20, GAP = 12;     // pixels

function drawTimeline() {                      // the part of the video that zoom and from choose
  const video = state.shown[state.at];
  if (!video) return;
  const width = Math.max($("timeline").clientWidth, 300), inner = width - GUTTER - RIGHT;
  const span = spanOf(video), part = span / state.zoom;
  state.from = clamp(state.from, 0, span - part);
  const x = t => (t - state.from) / part * inner;
  const ticks = steps(state.from, state.from + part, inner / 80);
  drawn = {video, x, inner, span, part, ticks, rows: rowsOf(video)};
  const overview = state.zoom > 1 ? overviewOf(video) : "";
  let y = overview ? 22 : 4;
  const rows = drawn.rows.map(row => {
    const markup = drawRow(row, y);
    y = row.bottom + GAP;
    return markup;
  });
  const axis = ticks.map(t => m`${line(GUTTER + x(t), y, GUTTER + x(t), y + 5, "axis")}${
    text(t, GUTTER + x(t), y + 17, "middle")}`);
  put("timeline", m`<svg width="${width}" height="${y + 24}" class="timeline" tabindex="0"
    role="slider" aria-label="Timeline; arrow keys move, Enter seeks" aria-valuemin="0"
    aria-valuemax="${span}" aria-valuenow="0">${overview}<svg x="${GUTTER}" width="${inner}"
    height="${y}">${rows.map(([plot]) => plot)}${line(0, 0, 0, y, "cursor")}${
    line(0, 0, 0, y, "playhead")}</svg>${rows.map(([, gutter]) => gutter)}${axis}${
    line(GUTTER, y, width - RIGHT, y, "axis")}${text("seconds", GUTTER - 8, y + 17, "end")}</svg>`);
  movePlayhead(state.time);
  drawControls();
}

function rowsOf(video) {                       // with their scores, segments, proposals of sliders
  const {judged, known, protocol} = view, of = (row, all) => all.filter(one => one.c === row.c);
  const rows = video.r.map(row => ({...row, scores: scoresOf(video, row),
                                    truth: of(row, video.truth), found: of(row, video.found)}));
  const possible = rows.filter(({scores, g}) => state.moved && scores?.Q && g);
  const all = possible.flatMap(({c, scores: {L, levels}}) => proposals(video, c, L, levels[0]));
  const moved = judged ? judge(all, video.truth, video.a, known, judged.tiou, protocol)
    : all.map(one => ({...one, kind: PLAIN}));
  for (const row of possible) row.moved = of(row, moved);
  return rows;
}

function overviewOf(video) {                   // where in the video one is; a click moves there
  const {inner, span, part} = drawn, left = GUTTER + state.from / span * inner;
  return m`${rect(GUTTER, 0, inner, 12, "plot")}<svg x="${GUTTER}" width="${inner}" height="12">${
    strip(video, inner)}</svg>${text("whole video", GUTTER - 8, 10, "end", "small")}${
    rect(left, 0, part / span * inner, 12, "frame")}`;
}

function drawRow(row, top) {                   // [in the plot, in the gutter]
  const {x, inner, ticks, part} = drawn, {scores, truth, found, moved} = row, frame = top + HEAD;
  const lanes = [["detected", found]], first = frame + (scores ? CURVE + 4 : 6);
  if (truth.length) lanes.unshift(["ground truth", truth]);
  if (moved) lanes.push(["sliders", moved]);
  const bars = lanes.map(([name, all], k) => {
    const seen = all.filter(one => one.end >= state.from && one.start <= state.from + part);
    return m`<g class="lane ${name.replace(" ", "-")}">${
      thin(seen, x, inner).map(one => segmentBar(one, first + k * LANE))}</g>`;
  });
  const labels = lanes.map(
    ([name], k) => text(name, GUTTER - 8, first + k * LANE + 12, "end", "small"));
  const grid = ticks.map(t => line(x(t), frame, x(t), frame + CURVE, "grid-line"));
  const [plot, numbers] = scores ? drawCurves(row, frame) : ["", ""];
  const gate = row.g ? "" : ` (below the class gate, ${view.method.rule.gate})`;
  row.bottom = first + lanes.length * LANE;
  return [
    m`<g class="row" data-class="${data.classes[row.c]}">${
      rect(0, frame, inner, scores ? CURVE : 2, "plot")}${scores ? grid : ""}${plot}${bars}</g>`,
    m`${labels}${numbers}${text(data.classes[row.c] + gate, 2, top + 12, "start", "class-name")}`,
  ];
}

function drawCurves({scores, truth}, top) {    // [in the plot, in the gutter]
  const {x, inner, part, video: {w}} = drawn, {L, Q, P, levels} = scores;
  const [low, highest] = range([Q ?? L, P ?? levels].flatMap(range));
  const high = Math.max(highest, low + 1e-6), edge = t => x(times([t], w)[0]).toFixed(1);
  const height = value => (high - clamp(value, low, high)) / (high - low) * (CURVE - 6);
  const y = value => (top + 3 + height(value)).toFixed(1);
  const clipAt = t => (t - (w[1] - w[0]) / 2) / w[0], first = Math.max(Math.floor(clipAt(state.from)), 0);
  const curves = ["P", "Q", "L"].filter(name => state.curves.has(name) && scores[name]).map(name => {
    const values = scores[name].slice(first, Math.ceil(clipAt(state.from + part))), path = [];
    const size = Math.ceil(values.length / inner / 2);     // clips to a stroke
    for (let t = 0; t < values.length; t += size) {
      const [least, most] = range(values.slice(t, t + size));
      path.push(t ? "L" : "M", `${edge(first + t)} ${y(least)}`, size > 1 ? `V${y(most)}` : "",
                `H${edge(first + Math.min(t + size, values.length))}`);
    }
    return m`<path d="${path.join("")}" class="curve curve-${name}"/>`;
  });
  const bands = truth.map(({start, end}) => rect(x(start), top, x(end) - x(start), CURVE, "band"));
  const shown = (state.curves.has("L") ? levels : []).map(level => m`<g data-level="${level}">${
    line(edge(0), y(level), edge(L.length), y(level), "threshold")}</g>`);
  const numbers = [[high, 9], [low, CURVE - 1]].map(
    ([value, down]) => text(value.toFixed(2), GUTTER - 8, top + down, "end", "small"));
  return [m`${bands}${curves}${shown}`, numbers];
}

function wordOf({kind, found}) {
  if (kind === undefined) return found ? "found" : "missed";
  return view.judged ? KINDS[kind].word : "detection";
}

function factsOf(one) {
  const score = one.score === undefined ? "" : `, score ${one.score.toFixed(3)}`;
  return `${wordOf(one)}, ${seconds(one.start)} to ${seconds(one.end)}${score}`;
}

function segmentBar(one, y) {
  const {x} = drawn, {start, end, score, kind, found} = one, wide = x(end) - x(start);
  const style = kind === undefined ? (found ? "truth" : "missed") : KINDS[kind].style;
  const middle = x(start) + wide / 2, inside = score === undefined || wide <= 40 ? "" : m`${
    rect(middle - 17, y + 2, 34, LANE - 5, "paper")}${
    text(score.toFixed(3), middle, y + 12, "middle", "score")}`;
  return m`<g data-start="${start}" data-end="${end}">${
    rect(x(start), y + 1, Math.max(wide, 1), LANE - 3, `kind-${style}`, factsOf(one))}${inside}</g>`;
}

function patterns() {                          // so that kinds are told apart without colour
  const pattern = (id, angle, gap, style, more = "") => m`<pattern id="${id}" width="${gap}"
    height="${gap}" patternUnits="userSpaceOnUse" patternTransform="rotate(${angle})">${
    rect(0, 0, gap, gap, `under ${style}`)}${rect(0, 0, 2, gap, style)}${more}</pattern>`;
  return m`<defs>${pattern("h-missed", 45, 6, "p-truth")}${pattern("h-double", 0, 5, "p-hit")}${
    pattern("h-shifted", 45, 6, "p-shifted")}${pattern("h-confused", 135, 6, "p-wrong")}${
    pattern("h-wrong", 45, 6, "p-wrong", rect(0, 0, 6, 2, "p-wrong"))}</defs>`;
}

function drawLegend() {
  const {judged, found, videos} = view, used = new Set(found.map(one => one.kind));
  const fused = videos.some(video => video.q);
  const curves = (fused ? ["L", "Q", "P"] : ["L"]).map(name => m`<span><label><input type="checkbox"
    data-curve="${name}"${state.curves.has(name) ? m` checked` : ""}> ${stroke(`curve curve-${name}`)}
    ${fused ? name : "score of the clips"}</label></span>`);
  const truth = [{style: "truth", word: "ground truth, found"}, {style: "missed", word: "missed"}];
  const kinds = judged ? [...truth, ...KINDS.filter((_, kind) => used.has(kind))]
    : [{style: "not-scored", word: "detection"}];
  put("legend", m`${curves}<span>${stroke("threshold")} threshold</span>${kinds.map(
    ({style, word, hint}) => m`<span title="${hint}">${swatch(style)} ${word}</span>`)}`);
}

// ---------------------------------------------------------------- cursor, sliders and keys

function place(event) {                        // {share of the width, seconds, pixels}; sets the row
  const box = $("timeline").firstChild.getBoundingClientRect(), y = event.clientY - box.top;
  const share = (event.clientX - box.left - GUTTER) / drawn.inner;
  const row = drawn.rows.findIndex(item => y < item.bottom + GAP);
  if (row >= 0) state.row = row;
  return {share, t: state.from + share * drawn.part, y};
}

function clickTimeline(event) {
  const {share, t, y} = place(event);
  if (state.zoom > 1 && y < 14) {
    state.from = share * drawn.span - drawn.part / 2;
    return drawTimeline();
  }
  showCursor(t);
  seek(state.cursor);
}

function keyOnTimeline(event) {
  const [step] = drawn.video.w, turn = {ArrowUp: -1, ArrowDown: 1}[event.key];
  const move = {ArrowLeft: -step, ArrowRight: step, Home: -Infinity, End: Infinity}[event.key];
  if (event.key === "Enter") seek(state.cursor);
  else if (turn) state.row = clamp(state.row + turn, 0, drawn.rows.length - 1);
  else if (!move) return;
  showCursor(state.cursor + (move ?? 0));
  event.preventDefault();
}

function moveLine(style, t) {
  const node = document.querySelector(`#timeline .${style}`);
  for (const end of ["x1", "x2"]) node.setAttribute(end, drawn.x(t));
  node.style.visibility = "visible";
}

function showCursor(t) {
  state.cursor = clamp(t, 0, drawn.span);
  moveLine("cursor", state.cursor);
  if (!drawn.rows.length) return;
  $("readout").textContent = numbersAt(state.cursor, drawn.rows[state.row]).join(" · ");
  $("timeline").firstChild.setAttribute("aria-valuenow", state.cursor.toFixed(2));
  $("timeline").firstChild.setAttribute("aria-valuetext", $("readout").textContent);
}

function numbersAt(t, {c, scores, truth, found, moved = []}) {
  const [step, window] = drawn.video.w, words = [`${seconds(t)}, ${data.classes[c]}`];
  if (scores) {
    const at = Math.floor((t - (window - step) / 2) / step + 1e-9), {L, Q, P, levels} = scores;
    const k = clamp(at, 0, L.length - 1), digits = value => value.toFixed(3);
    const rest = Q ? `, Q ${digits(Q[k])}, P ${digits(P[k])}` : "";
    words.push(`clip ${k}: L ${digits(L[k])} (threshold ${levels.map(digits).join(", ")})${rest}`);
  }
  for (const [name, all] of Object.entries({"ground truth": truth, detected: found, sliders: moved})) {
    const here = all.filter(({start, end}) => start <= t && t < end);
    words.push(...here.map(one => `${name}: ${factsOf(one)}`));
  }
  return words;
}

function seek(t) {
  if (!$("player").hidden) $("player").currentTime = t;
  movePlayhead(t);
}

function movePlayhead(t) {
  state.time = t;
  if (!t && $("player").hidden) return;
  const outside = t < state.from || t > state.from + drawn.part;
  if (outside && !$("player").paused) {        // what is shown follows a video that plays
    state.from = t;
    drawTimeline();
  } else moveLine("playhead", t);
}

function drawControls() {
  const {rows, video} = drawn, {rule} = view.method, {moved, lam, gamma} = state;
  $("controls").hidden = !rows.some(row => row.scores?.Q);
  $("lam").value = lam;
  $("gamma").value = gamma;
  $("lamvalue").textContent = short(lam);
  $("gammavalue").textContent = (moved ? [gamma] : rule.gammas).map(short).join(", ");
  $("reset").disabled = !moved;
  const found = rows.flatMap(row => row.moved ?? []), hits = all => count(all, one => one.kind === HIT);
  const [compared, judged] = !view.judged ? ["", ""] : [
    `, ${hits(found)} of ${number(video.truth.length, "segment")} found (the run: ${hits(video.found)})`,
    "; judged as the run's detections are, in this video alone"];
  $("rulenote").textContent = !moved
    ? "Move λ or γ to see what they do to L, its threshold and the proposals of this video."
    : `${number(found.length, "proposal")} here${compared}. Computed in this page: L = λQ + (1 − λ)P, ` +
      `clips above mean(L) + γ(max(L) − min(L)), scored by the mean of L, no NMS${judged}. ` +
      "Tables and the run's own detections stay as they are.";
}

function slide(lam, gamma) {
  Object.assign(state, {lam, gamma, moved: true});
  drawTimeline();
}

function zoom(factor) {                        // around the middle of what is shown
  const middle = state.from + drawn.part / 2, most = drawn.span / drawn.video.w[0] / 4;
  state.zoom = clamp(state.zoom * factor, 1, Math.max(most, 1));
  state.from = middle - drawn.span / state.zoom / 2;
  drawTimeline();
}

function drawSweep() {                         // mAP over lambda and gamma
  const {sweep} = view.method;
  document.querySelector("nav [href='#sweep']").hidden = !sweep;
  $("sweep").replaceChildren();
  $("sweepnote").textContent = !sweep ? "" : (sweep.own ? "Framed: this run. " : "") +
    (sweep.coarse ? "A coarser grid than usual, to save time. " : "") +
    `All test videos, protocol ${sweep.protocol}. Measured on the test set: it shows how much λ and γ ` +
    "matter and chooses nothing. A click sets the sliders.";
  for (const [name, values] of Object.entries(sweep?.maps ?? {})) {
    figure("sweep", name, "(%)", width => sweepSvg(sweep, values, name, width));
  }
}

function sweepSvg({lams, gammas, own}, values, name, width) {
  const left = 40, wide = Math.min((width - left - 2) / lams.length, 44), high = 18;
  const [low, most] = range(values.flat()), last = gammas.length - 1, bottom = (last + 1) * high + 2;
  const x = l => left + l * wide, y = g => (last - g) * high + 1;
  const cells = values.map((row, g) => row.map((value, l) => m`<g data-do="slide" data-of="${
    lams[l]},${gammas[g]}"><g fill-opacity="${0.05 + 0.55 * (value - low) / (most - low || 1)}">${
    rect(x(l), y(g), wide, high, "cell cell-own", `λ ${lams[l]}, γ ${gammas[g]}: ${percent(value)}`)}</g>${
    wide > 25 ? text(percent(value), x(l + 0.5), y(g) + 13, "middle", "score") : ""}</g>`));
  const words = [
    ...gammas.map((gamma, g) => text(`${g ? "" : "γ "}${short(gamma)}`, left - 5, y(g) + 13, "end")),
    ...lams.map((lam, l) => text(`${l ? "" : "λ "}${short(lam)}`, x(l + 0.5), bottom + 12, "middle"))];
  const frame = own ? rect(x(own[0]), y(own[1]), wide, high, "frame") : "";
  return m`<svg width="${width}" height="${bottom + 16}" role="img" aria-label="${name}">${
    cells}${words}${frame}</svg>`;
}

// ----------------------------------------------------------------------------- video files

function fileOf({n}) {                         // ActivityNet's files begin with v_
  return state.files?.get(n.toLowerCase()) ?? state.files?.get("v_" + n.toLowerCase());
}

function openFolder() {
  const films = [...$("folder").files].filter(
    file => /\.(mp4|m4v|webm|mkv|mov|avi|ogv|mpg|mpeg)$/i.test(file.name));
  state.files = new Map(films.map(file => [file.name.replace(/\.[^.]*$/, "").toLowerCase(), file]));
  filter();
}

function loadFile() {
  const player = $("player"), video = state.shown[state.at], file = fileOf(video);
  if (!state.files) return;
  if (state.url) URL.revokeObjectURL(state.url);
  state.url = file ? URL.createObjectURL(file) : null;
  player.hidden = !file;
  if (file) player.src = state.url;
  else player.removeAttribute("src");
  const absent = file ? "" : `No video file in that folder is called ${video.n}. `;
  const there = `${count(view.videos, fileOf)} of ${number(view.videos.length, "video")} are there (▶).`;
  $("folderstate").textContent = absent + there;
}

function checkLength() {                       // of the file, once it is known
  const {duration} = $("player"), {s} = state.shown[state.at];
  if (duration < s - 1) {
    $("folderstate").textContent = `This file lasts ${duration.toFixed(1)} s, the features ` +
      `${seconds(s)}: is it the right one?`;
  }
}

function follow() {                            // the playhead goes along with the video
  movePlayhead($("player").currentTime);
  if (!$("player").paused) requestAnimationFrame(follow);
}

// -------------------------------------------------------------------------------- training

function chartSvg({title, x: below, y: above, percent, shade, series}, width) {
  const left = 46, right = width - 8, top = 20, bottom = 188;
  const [, last] = range(series.flatMap(part => part.x));
  const [least, most] = range(series.flatMap(part => part.y).filter(value => value !== null));
  const low = Math.min(0, least), high = percent ? 100 : Math.max(most, 1e-9) * 1.04;
  const x = epoch => left + (epoch - 0.5) / last * (right - left);
  const y = value => top + (high - value) / (high - low) * (bottom - top);
  const shades = shade.map(([from, to]) => rect(x(from), top, x(to) - x(from), bottom - top, "plot"));
  const grid = steps(low, high, 4).map(value => m`${line(left, y(value), right, y(value), "grid-line")}${
    text(`${value}${percent ? "%" : ""}`, left - 5, y(value) + 3.5, "end")}`);
  const epochs = steps(1, last, width / 90).filter(Number.isInteger).map(
    epoch => text(epoch, x(epoch), bottom + 14, "middle"));
  const lines = series.map((part, k) => {
    const path = part.y.map((value, i) => {    // a null: the line is broken; a dash for one alone
      const [before, after] = [part.y[i - 1] ?? null, part.y[i + 1] ?? null];
      const at = (epoch, more = 0) => `${(x(epoch) + more).toFixed(1)} ${y(value).toFixed(1)}`;
      if (value === null) return "";
      if (before === null && after === null) return `M${at(part.x[i], -2)}h4`;
      return (before === null ? "M" : "L") + at(part.x[i]);
    });
    return m`<path d="${path.join("")}" class="line line${k % 6}"/>`;
  });
  return m`<svg width="${width}" height="222" role="img" aria-label="${title}">${shades}${grid}${epochs}${
    text(above, 4, 10)}${text(below + (shade.length ? " (shaded: E steps)" : ""), (left + right) / 2, 218,
    "middle")}${line(left, y(0), right, y(0), "axis")}${lines}</svg>`;
}

// ------------------------------------------------------------------------------- SVG files

// The picture below its title, note and legend, in light colours; the page's style sheet goes
// along. legend: elements of the page, each a small picture and words.
function saveSvg(picture, title, note, legend) {
  const width = +picture.getAttribute("width"), height = +picture.getAttribute("height");
  let x = Infinity, y = note ? 34 : 18;
  const entries = [...legend].map(entry => {
    const words = entry.textContent.trim(), room = 46 + widest([words]);
    if (x + room > width) [x, y] = [8, y + 18];
    x += room;
    const inside = {markup: entry.querySelector("svg").outerHTML};
    return m`<svg x="${x - room}" y="${y - 10}">${inside}</svg>${text(words, x - room + 32, y)}`;
  });
  const box = document.createElement("div"), wide = Math.max(width, 16 + 1.2 * widest([note, title]));
  box.innerHTML = m`<svg xmlns="http://www.w3.org/2000/svg" width="${wide}" height="${y + 10 + height}">
    <style>${{markup: lightStyles()}}</style>${patterns()}${rect(0, 0, "100%", "100%", "paper")}${
    text(title, 8, 18, "start", "class-name")}${text(note, 8, 34, "start", "small")}${entries}
    <svg y="${y + 10}">${{markup: picture.outerHTML}}</svg></svg>`.markup;
  for (const node of box.querySelectorAll(".cursor, .playhead")) node.remove();
  const file = new XMLSerializer().serializeToString(box.firstChild);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([file], {type: "image/svg+xml"}));
  link.download = title.replace(/[^\p{L}\p{N}_-]+/gu, "_") + ".svg";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function lightStyles() {                       // the rules for figures, with the colours written out
  const [colours, ...rules] = [...document.styleSheets[0].cssRules].filter(rule => rule.selectorText);
  const written = rule => rule.cssText.replace(
    /var\((--[\w-]+)\)/g, (_, name) => colours.style.getPropertyValue(name));
  const own = rules.filter(rule => /^(svg text|\.)/.test(rule.selectorText));
  return own.map(written).join("\n");
}

function saveTimeline() {
  const legend = [...$("legend").children];
  saveSvg($("timeline").firstChild, drawn.video.n, "",
          legend.filter(entry => entry.querySelector("input")?.checked ?? true));
}

// ----------------------------------------------------------------------------------- start

const ACTIONS = {                              // of elements with data-do; data-of: their numbers
  label: c => show({label: state.label === c ? null : c, only: null}),
  all: () => show({only: null}),
  cell: showCell,
  open: k => open(view.videos[k]),
  select,
  slide,
  reset: () => look(),
  next: () => select(state.at + 1),
  previous: () => select(state.at - 1),
  in: () => zoom(2),
  out: () => zoom(0.5),
  save: saveTimeline,
};

function open(video) {
  $("search").value = "";
  show({label: null, only: null}, video.n);
}

function keys(event) {
  const typing = event.target.closest("input[type=search], select, video");
  const pressing = event.target.closest("button, input, summary, label"), player = $("player");
  const act = {j: ACTIONS.next, k: ACTIONS.previous, "/": () => $("search").focus()}[event.key];
  if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
  if (act) act();
  else if (event.key === " " && !player.hidden && !pressing) {
    if (player.paused) player.play();
    else player.pause();
  } else return;
  event.preventDefault();
}

function keyOnList(event) {
  const turns = {ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -Infinity, End: Infinity};
  if (!(event.key in turns)) return;
  select(state.at + turns[event.key]);
  event.preventDefault();
}

function listen() {
  const on = (id, name, act) => $(id).addEventListener(name, act);
  document.addEventListener("click", event => {
    const node = event.target.closest("[data-do]");
    if (node) ACTIONS[node.dataset.do](...(node.dataset.of ?? "").split(",").map(Number));
  });
  document.addEventListener("keydown", keys);
  for (const id of ["method", "protocol"]) on(id, "input", look);
  for (const id of ["search", "sort"]) on(id, "input", () => filter());
  for (const id of ["lam", "gamma"]) on(id, "input", () => slide(+$("lam").value, +$("gamma").value));
  for (const name of ["play", "seeked", "timeupdate"]) on("player", name, follow);
  on("player", "loadedmetadata", checkLength);
  on("least", "input", drawCounts);
  on("class", "input", ({target: {value}}) => show({label: value === "" ? null : +value, only: null}));
  on("legend", "input", ({target}) => {
    state.curves[target.checked ? "add" : "delete"](target.dataset.curve);
    drawTimeline();
  });
  on("list", "keydown", keyOnList);
  on("folder", "change", openFolder);
  on("timeline", "pointermove", event => showCursor(place(event).t));
  on("timeline", "click", clickTimeline);
  on("timeline", "keydown", keyOnTimeline);
  new ResizeObserver(() => drawTimeline()).observe($("timeline"));
  const side = $("side"), hold = () => {       // its end stays in sight while the left half goes on
    side.style.top = `${Math.min(0, innerHeight - side.offsetHeight)}px`;
  };
  new ResizeObserver(hold).observe(side);
  window.addEventListener("resize", hold);
}

function start() {
  const address = location.hash, protocols = Object.keys(data.methods[0].protocols);
  const orders = Object.keys(ORDERS).filter(name => protocols.length || !/AP|missed/.test(name));
  const menu = (id, names, values = names) => put(id, m`${names.map(
    (name, k) => m`<option value="${values[k]}">${name}</option>`)}`);
  menu("method", data.methods.map(method => method.label), [...data.methods.keys()]);
  menu("protocol", protocols);
  menu("class", ["all classes", ...data.classes], ["", ...data.classes.keys()]);
  menu("sort", orders);
  for (const id of ["method", "protocol"]) $(id).parentNode.hidden = $(id).length < 2;
  put("patterns", patterns());
  $("training").hidden = !data.charts.length;
  for (const link of document.querySelectorAll("nav a")) link.hidden = $(link.hash.slice(1)).hidden;
  look();
  listen();
  const linked = view.videos.find(video => "#" + encodeURIComponent(video.n) === address);
  if (linked) open(linked);
  for (const chart of data.charts) {
    const legend = chart.series.map((part, k) => m`${stroke(`line line${k % 6}`)} ${part.name}`);
    figure("charts", chart.title, "", width => chartSvg(chart, width), legend);
  }
}

start();
