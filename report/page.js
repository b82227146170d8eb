"use strict";
// Draws the page's figures from the JSON in #data, which report/page.py writes. No framework.

const data = JSON.parse(document.getElementById("data").textContent);
const styles = Object.values(data.styles);     // of each kind: style, word, explanation
const scored = data.tiou !== null;             // there is ground truth
const $ = id => document.getElementById(id);
const state = {
  shown: [], at: 0,                            // the videos in the list; place of the open one
  lam: data.rule.lam, gamma: data.rule.gammas[0], moved: false,
  curves: new Set("L"), zoom: 1,
  row: 0, cursor: 0, time: 0,                  // pointed at: row, seconds; the playhead: seconds
  files: null, url: null,                      // files by lower-case stem; address of the open one
};

// -------------------------------------------------------------------------------- elements

function make(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);                    // a string becomes text, whatever it says
  return node;
}

function html(name, attributes = {}, ...children) {
  return make(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return make(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function rect(x, y, width, height, style, more = {}) {
  return svg("rect", {x, y, width, height, class: style, ...more});
}

function line(x1, y1, x2, y2, style, more = {}) {
  return svg("line", {x1, y1, x2, y2, class: style, ...more});
}

function text(words, x, y, anchor = "start", style = "") {
  return svg("text", {x, y, "text-anchor": anchor, class: style}, words);
}

function sample(width, child) {                // a small picture beside a word of a legend
  return svg("svg", {width, height: 12, "aria-hidden": "true"}, child);
}

// The data are rounded already, by page.py, to the digits that these functions show.

function percent(value) {
  return value === null ? "–" : value.toFixed(1);
}

function seconds(t) {
  return `${+t.toFixed(3)} s`;
}

function clipWords(both) {                     // [step, window] of the clips
  const [step, window] = both.map(value => `${+value.toFixed(3)} s`);
  return step === window ? step : `${window} every ${step}`;
}

function number(n, word) {
  return `${n} ${word}${n === 1 ? "" : "s"}`;
}

function range(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)],
                       [Infinity, -Infinity]);
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

function steps(low, high, wanted) {            // about `wanted` round numbers in [low, high]
  const rough = (high - low) / wanted || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(factor => factor * power >= rough * 0.999);
  const values = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) {
    values.push(+(k * step).toPrecision(12));
  }
  return values;
}

// --------------------------------------------------------------------------- the equations

function fuse(q, p, lam) {               // Eq. 9: L[t] = lambda * Q[t] + (1 - lambda) * P[t, c]
  return q.map((value, t) => lam * value + (1 - lam) * p[t]);
}

function threshold(l, gamma) {                 // Sec. 3.5: mean(L) + gamma * (max(L) - min(L))
  const [low, high] = range(l);
  return Math.min(Math.max(sum(l) / l.length, low), high) + gamma * (high - low);
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

function times(clips, [step, window], duration = Infinity) {     // as localize.times
  return clips.map(t => Math.min(Math.max(t * step + (window - step) / 2, 0), duration));
}

function proposals(video, l, level) {          // [start s, end s, mean of L], as in localize.py
  return runs(l, level)
    .map(([start, end]) => [...times([start, end], video.w, video.s),
                            sum(l.slice(start, end)) / (end - start)])
    .filter(([start, end]) => end > start);
}

function unpack(packed) {                      // base64 of uint16 -> scores in [0, 1]
  const bytes = Uint8Array.from(atob(packed), c => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Array.from({length: bytes.length / 2}, (_, t) => view.getUint16(2 * t, true) / 65535);
}

function scoresOf(video, row) {                // {Q, P, L, levels, edges}, null where none are kept
  if (!video.q || !row.p) return null;
  const q = unpack(video.q), p = unpack(row.p), l = fuse(q, p, state.lam);
  const gammas = state.moved ? [state.gamma] : data.rule.gammas;
  return {Q: q, P: p, L: l, levels: gammas.map(gamma => threshold(l, gamma)),
          edges: times([...q.keys(), q.length], video.w)};
}

// ------------------------------------------------------------------------- curves and bars

function figure(parent, title, note = "") {    // a titled box with a button that saves its SVG
  const save = html("button", {type: "button"}, "Save SVG");
  const box = html("figure", {}, html("figcaption", {}, save, html("strong", {}, title), " ",
                                      html("span", {}, note)));
  save.addEventListener("click", () => saveSvg(box.querySelector("svg[role]"), title, note,
                                               box.querySelectorAll(".legend span")));
  parent.append(box);
  return box;
}

function redraw(area, draw) {                  // draws now, and again when the width changes
  let width = 0;
  const update = () => {
    if (area.clientWidth === width || !area.clientWidth) return;
    width = area.clientWidth;
    area.replaceChildren(draw(width));
  };
  new ResizeObserver(update).observe(area);
  update();
}

function drawChart(chart) {
  const box = figure($("charts"), chart.title), area = html("div");
  const legend = html("p", {class: "legend"});
  const readout = html("p", {class: "hint"}, "Point at the figure for numbers.");
  chart.series.forEach((part, k) => legend.append(
    html("span", {}, sample(26, line(1, 6, 25, 6, `line line${k % 6}`)), " " + part.name)));
  box.append(legend, area, readout);
  redraw(area, width => chartSvg(chart, width, readout));
}

function chartSvg(chart, width, readout) {
  const frame = {left: 46, right: width - 8, top: 20, bottom: 188, height: 222};
  const epochs = chart.series.flatMap(part => part.x);
  const values = chart.series.flatMap(part => part.y).filter(y => y !== null);
  const last = range(epochs)[1] + 0.5, low = Math.min(0, range(values)[0]);
  const high = chart.percent ? 100 : Math.max(range(values)[1], 1e-9) * 1.04;
  const x = epoch => frame.left + (epoch - 0.5) / (last - 0.5) * (frame.right - frame.left);
  const y = value => frame.top + (high - value) / (high - low) * (frame.bottom - frame.top);
  const picture = svg("svg", {width, height: frame.height, role: "img",
                              "aria-label": `${chart.title}: ${chart.y} over epochs`});
  for (const [from, to] of chart.shade) {
    picture.append(rect(x(from), frame.top, x(to) - x(from), frame.bottom - frame.top, "shade"));
  }
  for (const value of steps(low, high, 4)) {
    const words = `${value}${chart.percent ? "%" : ""}`;
    picture.append(line(frame.left, y(value), frame.right, y(value), "grid-line"),
                   text(words, frame.left - 5, y(value) + 3.5, "end"));
  }
  for (const epoch of steps(1, last, width / 90).filter(Number.isInteger)) {
    picture.append(text(`${epoch}`, x(epoch), frame.bottom + 14, "middle"));
  }
  picture.append(text(chart.y, 4, 10),
                 text(chart.shade.length ? "epoch (shaded: E steps)" : "epoch",
                      (frame.left + frame.right) / 2, frame.height - 4, "middle"),
                 line(frame.left, y(0), frame.right, y(0), "axis"));
  chart.series.forEach((part, k) => {
    const points = part.x.map((epoch, i) => [epoch, part.y[i]]).filter(point => point[1] !== null);
    const places = points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ");
    picture.append(svg("polyline", {points: places, class: `line line${k % 6}`}));
    for (const [a, b] of points.length <= 80 ? points : []) {
      picture.append(svg("circle", {cx: x(a), cy: y(b), r: 2, class: `dot line${k % 6}`}));
    }
  });
  readChart(chart, picture, frame, epochs, last, x, readout);
  return picture;
}

function readChart(chart, picture, frame, epochs, last, x, readout) {    // numbers where one points
  const cursor = line(0, frame.top, 0, frame.bottom, "cursor", {visibility: "hidden"});
  picture.append(cursor);
  picture.addEventListener("pointermove", event => {
    const across = event.clientX - picture.getBoundingClientRect().left - frame.left;
    const at = 0.5 + across / (frame.right - frame.left) * (last - 0.5);
    const near = epochs.reduce((best, e) => Math.abs(e - at) < Math.abs(best - at) ? e : best);
    moveLine(cursor, x(near));
    const words = [];
    for (const part of chart.series) {
      const value = part.y[part.x.indexOf(near)] ?? null;
      const shown = chart.percent ? percent(value) + "%" : value;
      if (value !== null) words.push(`${part.name} ${shown}`);
    }
    readout.textContent = `epoch ${near}: ${words.join(", ")}`;
  });
}

function moveLine(node, x) {
  node.setAttribute("x1", x);
  node.setAttribute("x2", x);
  node.setAttribute("visibility", "visible");
}

// rows: {label, parts: [[value, style]], text, hint}; pick(label): what a click does
function drawBars(title, note, rows, pick = null) {
  const box = figure($("profile"), title, note), area = html("div", {class: "scroll"});
  const high = Math.max(...rows.map(row => sum(row.parts.map(part => part[0]))), 1e-9);
  const longest = Math.max(...rows.map(row => row.label.length));
  const spoken = rows.map(row => `${row.label}: ${row.text}`).join("; ");
  if (pick) box.append(html("p", {class: "hint"}, "A click on a class shows only its videos."));
  box.append(area);
  redraw(area, width => {
    const left = Math.min(longest * 6.6 + 12, width * 0.42), step = 20;
    const picture = svg("svg", {width, height: rows.length * step + 4, role: "img",
                                "aria-label": `${title}. ${spoken}`});
    rows.forEach((row, k) => {
      const node = barLine(row, k * step, left, width, value => value / high * (width - left - 92));
      if (pick) {
        node.classList.add("pick");
        node.addEventListener("click", () => pick(row.label));
      }
      picture.append(node);
    });
    return picture;
  });
}

function barLine(row, y, left, width, scale) {
  const room = Math.floor((left - 8) / 6.4);
  const label = row.label.length > room ? row.label.slice(0, room - 1) + "…" : row.label;
  const node = svg("g", {class: "bar"}, svg("title", {}, `${row.label}: ${row.hint ?? row.text}`),
                   rect(0, y, width, 20, "hit-area"),
                   text(label, left - 6, y + 14, "end"));
  let x = left;
  for (const [value, style] of row.parts) {
    node.append(rect(x, y + 4, scale(value), 13, `kind-${style}`));
    x += scale(value);
  }
  node.append(text(row.text, x + 6, y + 14));
  return node;
}

function drawProfile() {
  const total = sum(data.kinds.map(([, n]) => n)), at = `at tIoU ${data.tiou}`;
  if (total) {
    drawBars("Detections", at, data.kinds.map(([kind, n]) => {
      const [style, label, hint] = data.styles[kind];
      return {label, parts: [[n, style]], text: `${n} (${percent(100 * n / total)}%)`,
              hint: `${n} of ${total}: ${hint}`};
    }));
  }
  drawBars("Ground truth found, by length of the segment", `${at}; hatched: missed`,
           data.lengths.map(([label, found, n]) => (
             {label, parts: [[found, "truth"], [n - found, "missed"]],
              text: n ? `${found} of ${n} (${Math.round(100 * found / n)}%)` : "none"})));
  if (data.sides.length) {
    drawBars("Boundaries of shifted detections",
             "against the segment of their class that they overlap most",
             data.sides.map(([label, n]) => ({label, parts: [[n, "shifted"]], text: `${n}`})));
  }
  const classes = [...data.ap].sort((a, b) => (b[1] ?? -1) - (a[1] ?? -1));
  drawBars("AP by class", `(%) ${at}; number of segments`,
           classes.map(([label, ap, n]) => (
             {label, parts: [[ap ?? 0, "hit"]], text: `${percent(ap)} · ${n}`,
              hint: `AP ${percent(ap)}%, ${n} segments`})),
           label => {
             $("class").value = String(data.classes.indexOf(label));
             filter();
             $("videos").scrollIntoView();
           });
}

// -------------------------------------------------------------------------------- the list

const ROW = 46;                                // pixels, as in the style sheet
const segmentsOf = (video, name) => video.r.flatMap(row => row[name]);
const missed = video => segmentsOf(video, "t").filter(segment => !segment[2]).length;
const names = new Intl.Collator(undefined, {numeric: true});
const ORDERS = {
  "name": (a, b) => names.compare(a.n, b.n),
  "AP, worst first": (a, b) => (a.a ?? 2) - (b.a ?? 2),
  "AP, best first": (a, b) => (b.a ?? -1) - (a.a ?? -1),
  "missed segments": (a, b) => missed(b) - missed(a),
  "detections": (a, b) => segmentsOf(b, "d").length - segmentsOf(a, "d").length,
};

function current() {
  return data.videos[state.shown[state.at]];
}

function spanOf(video) {                       // seconds; ground truth may end after the video
  const [clips] = video.q ? times([unpack(video.q).length], video.w) : [0];
  return Math.max(video.s, clips, ...segmentsOf(video, "t").map(segment => segment[1]));
}

function filter() {
  const open = current(), words = $("search").value.toLowerCase(), label = $("class").value;
  const order = ORDERS[$("sort").value];
  const has = row => row.c === +label && (row.t.length || row.d.length);
  state.shown = [...data.videos.keys()]
    .filter(k => data.videos[k].n.toLowerCase().includes(words))
    .filter(k => label === "" || data.videos[k].r.some(has))
    .sort((a, b) => order(data.videos[a], data.videos[b]) || a - b);
  $("count").textContent = `${state.shown.length} of ${data.videos.length}`;
  $("rows").style.height = `${state.shown.length * ROW}px`;
  const at = state.shown.findIndex(k => data.videos[k] === open);
  select(Math.max(at, 0), at < 0);
}

function select(at, changed = true) {
  const list = $("list");
  state.at = Math.min(Math.max(at, 0), Math.max(state.shown.length - 1, 0));
  const top = state.at * ROW;
  list.scrollTop = Math.min(Math.max(list.scrollTop, top + ROW - list.clientHeight), top);
  drawList();
  if (changed) showVideo();
}

function drawList() {                          // only the rows that can be seen
  const list = $("list"), first = Math.max(Math.floor(list.scrollTop / ROW) - 4, 0);
  const last = Math.min(first + Math.ceil(list.clientHeight / ROW) + 8, state.shown.length);
  const rows = [];
  for (let at = first; at < last; at++) rows.push(listRow(at));
  $("rows").replaceChildren(...rows);
  if (state.shown.length) list.setAttribute("aria-activedescendant", `video${state.at}`);
  else $("rows").append(html("p", {class: "hint"}, "No video matches."));
}

function listRow(at) {
  const video = data.videos[state.shown[at]], truth = segmentsOf(video, "t");
  const strip = svg("svg", {viewBox: `0 0 ${spanOf(video)} 10`, preserveAspectRatio: "none",
                            "aria-hidden": "true"});
  for (const [start, end, found] of truth) {
    strip.append(rect(start, 0, end - start, 4, found ? "kind-truth" : "strip-missed"));
  }
  const worstFirst = (a, b) => b[3] - a[3];    // hits are the first kind: nothing covers them
  for (const [start, end, , kind] of segmentsOf(video, "d").sort(worstFirst)) {
    strip.append(rect(start, 6, end - start, 4, `strip-${styles[kind][0]}`));
  }
  const facts = scored ? `AP ${percent(video.a)}, missed ${missed(video)} of ${truth.length}`
    : number(segmentsOf(video, "d").length, "detection");
  const node = html("div", {role: "option", id: `video${at}`, "aria-selected": at === state.at,
                            "aria-setsize": state.shown.length, "aria-posinset": at + 1},
                    html("span", {class: "name", title: video.n}, video.n),
                    html("span", {class: "facts"}, facts), strip);
  node.style.top = `${at * ROW}px`;
  node.addEventListener("click", () => select(at));
  return node;
}

// ------------------------------------------------------------------------------- one video

function showVideo() {
  const video = current();
  $("detail").hidden = !video;
  if (!video) return;
  Object.assign(state, {row: 0, cursor: 0, time: 0, zoom: 1});
  const facts = [seconds(video.s)];
  if (video.q) facts.push(`${number(unpack(video.q).length, "clip")} of ${clipWords(video.w)}`);
  if (scored) {
    facts.push(`AP ${percent(video.a)}% at tIoU ${data.tiou}`,
               `missed ${missed(video)} of ${number(segmentsOf(video, "t").length, "segment")}`);
  }
  facts.push(number(segmentsOf(video, "d").length, "detection"));
  if (video.h) facts.push(`${video.h} more classes are not shown`);
  $("name").textContent = video.n;
  $("facts").textContent = facts.join(" · ");
  $("readout").textContent = "Point at the timeline for numbers; click to seek.";
  history.replaceState(null, "", "#" + encodeURIComponent(video.n));
  loadFile();
  drawTimeline();
  drawSegments(video);
}

function drawSegments(video) {
  const cells = [];
  for (const row of video.r) {
    const label = data.classes[row.c];
    for (const [start, end, found] of row.t) {
      cells.push([label, start, end, "", `ground truth, ${found ? "found" : "missed"}`]);
    }
    for (const [start, end, score, kind] of row.d) {
      cells.push([label, start, end, score, scored ? styles[kind][1] : "detection"]);
    }
  }
  const head = ["class", "start (s)", "end (s)", "score", "kind"].map(word => html("th", {}, word));
  const body = cells.map(([label, ...rest]) => {
    const node = html("tr", {}, html("th", {scope: "row"}, label),
                      ...rest.map(cell => html("td", {}, `${cell}`)));
    node.addEventListener("click", () => seek(rest[0]));
    return node;
  });
  $("segments").replaceChildren(html("table", {}, html("thead", {}, html("tr", {}, ...head)),
                                     html("tbody", {}, ...body)));
}

// ---------------------------------------------------------------------------- the timeline

const GUTTER = 84, RIGHT = 10, CURVE = 76, LANE = 17, HEAD = 20, GAP = 12;     // pixels
let view = null;                               // the drawn timeline: {picture, x, span, rows, ...}

function drawTimeline() {
  const video = current(), box = $("timeline");
  if (!video) return;
  const width = Math.floor(Math.max(box.clientWidth, 300) * state.zoom), span = spanOf(video);
  const x = t => GUTTER + t / span * (width - GUTTER - RIGHT);
  const picture = svg("svg", {width, class: "timeline", tabindex: 0, role: "slider",
                              "aria-label": "Timeline; arrow keys move, Enter seeks",
                              "aria-valuemin": 0, "aria-valuemax": span, "aria-valuenow": 0});
  const gutter = svg("g", {class: "gutter"}, rect(0, 0, GUTTER - 2, 4000, "paper"));
  const drawing = {picture, gutter, x, span, ticks: steps(0, span, (width - GUTTER) / 80)};
  picture.append(patterns());
  const rows = [];
  let y = 4;
  for (const row of video.r) {
    rows.push(drawRow(video, row, y, drawing));
    y = rows.at(-1).bottom + GAP;
  }
  for (const t of drawing.ticks) {
    picture.append(line(x(t), y, x(t), y + 5, "axis"), text(`${t}`, x(t), y + 17, "middle"));
  }
  picture.append(line(x(0), y, x(span), y, "axis"));
  gutter.append(text("seconds", GUTTER - 8, y + 17, "end"));
  const cursor = line(0, 0, 0, y + 5, "cursor", {visibility: "hidden"});
  const playhead = line(0, 0, 0, y + 5, "playhead", {visibility: "hidden"});
  picture.append(cursor, playhead, gutter);
  picture.setAttribute("height", y + 24);
  view = {...drawing, rows, cursor, playhead, width};
  box.replaceChildren(picture);
  listen(picture);
  moveGutter();
  movePlayhead(state.time);
  drawControls();
}

function drawRow(video, row, top, {picture, gutter, x, span, ticks}) {
  const scores = scoresOf(video, row), lanes = [], plot = top + HEAD;
  const node = svg("g", {class: "row", "data-class": data.classes[row.c]});
  let y = plot + (scores ? CURVE + 4 : 6);
  node.append(rect(x(0), plot, x(span) - x(0), scores ? CURVE : 2, "plot"));
  if (scores) {
    for (const t of ticks) node.append(line(x(t), plot, x(t), plot + CURVE, "grid-line"));
    drawCurves(node, gutter, scores, row, plot, x);
  }
  const lane = (name, segments, draw) => {
    gutter.append(text(name, GUTTER - 8, y + 12, "end", "small"));
    node.append(svg("g", {class: `lane ${name.replace(" ", "-")}`},
                    ...segments.map(segment => segmentBar(x, y, segment, ...draw(segment)))));
    lanes.push({name, segments});
    y += LANE;
  };
  if (row.t.length) {
    lane("ground truth", row.t, segment => segment[2] ? ["truth", "found"] : ["missed", "missed"]);
  }
  lane("detected", row.d, ([, , score, kind]) => [styles[kind][0],
                                                   scored ? styles[kind][1] : "detection", score]);
  if (state.moved && scores && row.g) {
    const found = proposals(video, scores.L, scores.levels[0]);
    lane("sliders", found, segment => ["moved", "with the sliders", segment[2]]);
  }
  picture.append(node);
  const name = data.classes[row.c] + (row.g ? "" : ` (below the class gate, ${data.rule.gate})`);
  gutter.append(rect(0, top - 2, name.length * 7.4 + 8, HEAD, "paper", {opacity: 0.85}),
                text(name, 2, top + 12, "start", "class-name"));
  return {row, scores, lanes, bottom: y};
}

function drawCurves(node, gutter, scores, row, top, x) {
  const [low, highest] = range(scores.Q.concat(scores.P)), high = Math.max(highest, low + 1e-6);
  const inside = value => (high - Math.min(Math.max(value, low), high)) / (high - low);
  const y = value => top + 3 + inside(value) * (CURVE - 6);
  for (const [start, end] of row.t) {
    node.append(rect(x(start), top, x(end) - x(start), CURVE, "truth-band"));
  }
  for (const name of ["P", "Q", "L"].filter(name => state.curves.has(name))) {
    const parts = scores[name].map((value, t) => {
      const [from, to] = scores.edges.slice(t, t + 2).map(edge => x(edge).toFixed(1));
      return `${t ? "L" : "M"}${from} ${y(value).toFixed(1)}H${to}`;
    });
    node.append(svg("path", {d: parts.join(""), class: `curve curve-${name}`}));
  }
  for (const level of state.curves.has("L") ? scores.levels : []) {
    node.append(line(x(scores.edges[0]), y(level), x(scores.edges.at(-1)), y(level), "threshold",
                     {"data-level": level}));
  }
  gutter.append(text(high.toFixed(2), GUTTER - 8, top + 9, "end", "small"),
                text(low.toFixed(2), GUTTER - 8, top + CURVE - 1, "end", "small"));
}

function segmentBar(x, y, [start, end], style, words, score = null) {
  const wide = x(end) - x(start), middle = x(start) + wide / 2;
  const numbers = [words, `${seconds(start)} to ${seconds(end)}`];
  if (score !== null) numbers.push(`score ${score.toFixed(3)}`);
  const node = svg("g", {class: "segment"}, svg("title", {}, numbers.join(", ")),
                   rect(x(start), y + 1, Math.max(wide, 1), LANE - 3, `kind-${style}`,
                        {"data-start": start, "data-end": end}));
  if (score !== null && wide > 40) {
    node.append(rect(middle - 17, y + 2, 34, LANE - 5, "paper"),
                text(score.toFixed(3), middle, y + 12, "middle", "score"));
  }
  return node;
}

function patterns() {                          // so that kinds are told apart without colour
  const pattern = (id, angle, gap, style, ...lines) => svg(
    "pattern", {id, width: gap, height: gap, patternUnits: "userSpaceOnUse",
                patternTransform: `rotate(${angle})`},
    rect(0, 0, gap, gap, `under ${style}`), rect(0, 0, 2, gap, `over ${style}`), ...lines);
  return svg("defs", {}, pattern("h-missed", 45, 6, "p-truth"), pattern("h-double", 0, 5, "p-hit"),
             pattern("h-shifted", 45, 6, "p-shifted"), pattern("h-confused", 135, 6, "p-wrong"),
             pattern("h-moved", 90, 5, "p-moved"),
             pattern("h-wrong", 45, 6, "p-wrong", rect(0, 0, 6, 2, "over p-wrong")));
}

function drawLegend() {
  for (const box of document.querySelectorAll("[data-curve]")) {
    box.after(sample(26, line(1, 6, 25, 6, `curve curve-${box.dataset.curve}`)));
  }
  const add = (picture, word, hint = "") => $("legend").append(
    html("span", {title: hint}, picture, " " + word));
  const box = style => sample(22, rect(1, 1, 20, 10, `kind-${style}`));
  if (data.videos.some(video => video.q)) {
    add(sample(26, line(1, 6, 25, 6, "threshold")), "threshold of L");
  }
  if (!scored) return add(box("plain"), "detection");
  add(box("truth"), "ground truth, found");
  add(box("missed"), "missed", "no detection is matched to it");
  const used = new Set(data.videos.flatMap(video => segmentsOf(video, "d").map(d => d[3])));
  styles.forEach(([style, word, hint], kind) => {
    if (used.has(kind)) add(box(style), word, hint);
  });
}

// ---------------------------------------------------------------- cursor, sliders and keys

function listen(picture) {
  const place = event => {                     // the row and the seconds under the pointer
    const box = picture.getBoundingClientRect(), across = event.clientX - box.left - GUTTER;
    const row = view.rows.findIndex(item => event.clientY - box.top < item.bottom + GAP);
    if (row >= 0) state.row = row;
    return across / (view.width - GUTTER - RIGHT) * view.span;
  };
  picture.addEventListener("pointermove", event => showCursor(place(event)));
  picture.addEventListener("click", event => {
    showCursor(place(event));
    seek(state.cursor);
  });
  picture.addEventListener("keydown", event => {
    const [step] = current().w;
    const moves = {ArrowLeft: -step, ArrowRight: step, Home: -Infinity, End: Infinity};
    const turns = {ArrowUp: -1, ArrowDown: 1};
    if (event.key === "Enter") seek(state.cursor);
    else if (event.key in turns) {
      state.row = Math.min(Math.max(state.row + turns[event.key], 0), view.rows.length - 1);
      showCursor(state.cursor);
    } else if (event.key in moves) showCursor(state.cursor + moves[event.key]);
    else return;
    event.preventDefault();
  });
}

function showCursor(t) {
  state.cursor = Math.min(Math.max(t, 0), view.span);
  moveLine(view.cursor, view.x(state.cursor));
  if (!view.rows.length) return;
  const words = numbersAt(state.cursor, view.rows[state.row]).join(" · ");
  $("readout").textContent = words;
  view.picture.setAttribute("aria-valuenow", state.cursor.toFixed(2));
  view.picture.setAttribute("aria-valuetext", words);
}

function numbersAt(t, {row, scores, lanes}) {
  const words = [`${seconds(t)}, ${data.classes[row.c]}`];
  if (scores) {
    const begun = scores.edges.filter(edge => edge <= t).length;
    const k = Math.min(Math.max(begun, 1), scores.L.length) - 1;
    const levels = scores.levels.map(level => level.toFixed(3)).join(", ");
    words.push(`clip ${k}: L ${scores.L[k].toFixed(3)} (threshold ${levels}), ` +
               `Q ${scores.Q[k].toFixed(3)}, P ${scores.P[k].toFixed(3)}`);
  }
  for (const {name, segments} of lanes) {
    for (const [start, end, value, kind] of segments.filter(([from, to]) => from <= t && t < to)) {
      const facts = [`${name} ${seconds(start)} to ${seconds(end)}`];
      if (name === "ground truth") facts.push(value ? "found" : "missed");
      else facts.push(`score ${value.toFixed(3)}`);
      if (name === "detected" && scored) facts.push(styles[kind][1]);
      words.push(facts.join(", "));
    }
  }
  return words;
}

function seek(t) {
  if (!$("player").hidden) $("player").currentTime = t;
  movePlayhead(t);
}

function movePlayhead(t) {
  state.time = t;
  if (view && (t || !$("player").hidden)) moveLine(view.playhead, view.x(Math.min(t, view.span)));
}

function moveGutter() {                        // names and numbers stay at the left when zoomed
  view.gutter.setAttribute("transform", `translate(${$("timeline").scrollLeft} 0)`);
}

function drawControls() {
  const possible = view.rows.some(row => row.scores), one = data.rule.gammas.length === 1;
  $("controls").hidden = !possible;
  $("lam").value = state.lam;
  $("gamma").value = state.gamma;
  $("lamvalue").textContent = `${+state.lam.toFixed(4)}`;
  $("gammavalue").textContent = state.moved || one ? `${+state.gamma.toFixed(4)}`
    : data.rule.gammas.join(", ");
  $("reset").disabled = !state.moved;
  const fixed = (scored ? "Tables, AP and the run's own detections" : "The run's own detections") +
    " stay as they are.";
  const lanes = view.rows.flatMap(row => row.lanes).filter(lane => lane.name === "sliders");
  const found = sum(lanes.map(lane => lane.segments.length));
  if (!possible) $("rulenote").textContent = "No clip scores of EM-MIL are kept for this video.";
  else if (state.moved) {
    $("rulenote").textContent = 'The lane "sliders" is computed in this page: L = λQ + (1 − λ)P, ' +
      "clips above mean(L) + γ(max(L) − min(L)), scored by the mean of L, no NMS: " +
      `${number(found, "proposal")} here. ${fixed}`;
  } else {
    $("rulenote").textContent = "Move λ or γ to see what they do: L, its threshold and the " +
      `proposals are recomputed in this page. ${fixed}`;
  }
}

function slide() {
  Object.assign(state, {lam: +$("lam").value, gamma: +$("gamma").value, moved: true});
  drawTimeline();
}

function reset() {
  Object.assign(state, {lam: data.rule.lam, gamma: data.rule.gammas[0], moved: false});
  drawTimeline();
}

function zoom(factor) {                        // the middle of the timeline stays in the middle
  const box = $("timeline"), middle = (box.scrollLeft + box.clientWidth / 2) / view.width;
  state.zoom = Math.min(Math.max(state.zoom * factor, 1), 32);
  drawTimeline();
  box.scrollLeft = middle * view.width - box.clientWidth / 2;
}

function keys(event) {
  const typing = event.target.closest("input[type=search], select, video");
  const pressing = event.target.closest("button, input, summary, label");
  const player = $("player");
  if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
  if (event.key === "j") select(state.at + 1);
  else if (event.key === "k") select(state.at - 1);
  else if (event.key === "/") $("search").focus();
  else if (event.key === " " && !player.hidden && !pressing) {
    if (player.paused) player.play();
    else player.pause();
  } else return;
  event.preventDefault();
}

// ----------------------------------------------------------------------------- video files

const fileOf = video => state.files.get(video.n.toLowerCase()) ??
  state.files.get("v_" + video.n.toLowerCase());               // as ActivityNet's files are called

function openFolder() {
  const films = [...$("folder").files].filter(
    file => /\.(mp4|m4v|webm|mkv|mov|avi|ogv|mpg|mpeg)$/i.test(file.name));
  state.files = new Map(films.map(file => [file.name.replace(/\.[^.]*$/, "").toLowerCase(), file]));
  loadFile();
}

function loadFile() {
  const player = $("player"), video = current();
  if (!state.files || !video) return;
  if (state.url) URL.revokeObjectURL(state.url);
  const file = fileOf(video), there = data.videos.filter(fileOf).length;
  state.url = file ? URL.createObjectURL(file) : null;
  player.hidden = !file;
  if (file) player.src = state.url;
  else player.removeAttribute("src");
  const absent = file ? "" : `No video file in that folder is called ${video.n}. `;
  $("folderstate").textContent = `${absent}${there} of ${data.videos.length} videos are there.`;
}

function follow() {                            // the playhead goes along with the video
  movePlayhead($("player").currentTime);
  if (!$("player").paused) requestAnimationFrame(follow);
}

// ------------------------------------------------------------------------------- SVG files

const COPIED = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray",
                "stroke-linejoin", "opacity", "visibility", "font-size", "font-family",
                "font-weight", "text-anchor"];

// The picture below its title, note and legend, on white in dark mode too, with the styles written
// into the elements. legend: elements of the page, each a small picture and words.
function saveSvg(picture, title, note, legend) {
  const copy = picture.cloneNode(true), width = +picture.getAttribute("width");
  for (const node of copy.querySelectorAll("defs, .cursor, .playhead, .hit-area")) node.remove();
  copy.querySelector(".gutter")?.removeAttribute("transform");
  const sheet = svg("svg", {}, patterns(), rect(0, 0, "100%", "100%", "paper"),
                    text(title, 8, 18, "start", "class-name"), text(note, 8, 34, "start", "small"));
  let x = Infinity, y = note ? 34 : 18;
  for (const entry of legend) {
    const words = entry.textContent.trim(), room = 46 + 6.4 * words.length;
    if (x + room > width) [x, y] = [8, y + 18];
    sheet.append(make(entry.querySelector("svg").cloneNode(true), {x, y: y - 10}, []),
                 text(words, x + 32, y));
    x += room;
  }
  make(copy, {y: y + 10}, []);
  make(sheet, {width: Math.max(width, 16 + 8 * title.length),
               height: y + 10 + +picture.getAttribute("height")}, [copy]);
  writeStyles(sheet);
  const words = new XMLSerializer().serializeToString(sheet);
  const url = URL.createObjectURL(new Blob([words], {type: "image/svg+xml"}));
  html("a", {href: url, download: title.replace(/[^\p{L}\p{N}_-]+/gu, "_") + ".svg"}).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function saveTimeline() {
  const curves = $("controls").hidden ? [] : document.querySelectorAll("[data-curve]:checked");
  saveSvg(view.picture, current().n, "", [...Array.from(curves, box => box.parentNode),
                                          ...document.querySelectorAll("#legend span")]);
}

function writeStyles(sheet) {                  // of the light colours
  const nodes = [sheet, ...sheet.querySelectorAll("*")];
  document.documentElement.classList.add("light");
  document.body.append(sheet);                 // elements outside the page have no styles
  const written = nodes.map(node => {
    const style = getComputedStyle(node);
    const own = COPIED.map(key => `${key}:${style.getPropertyValue(key)}`).join(";");
    return own.replace(/url\("?[^#"]*(#[^")]*)"?\)/g, "url($1)");
  });
  sheet.remove();
  document.documentElement.classList.remove("light");
  nodes.forEach((node, k) => node.setAttribute("style", written[k]));
}

// ----------------------------------------------------------------------------------- start

function fillMenus() {
  const used = new Set(data.videos.flatMap(video => video.r)
    .filter(row => row.t.length || row.d.length).map(row => row.c));
  $("class").append(html("option", {value: ""}, "all classes"));
  data.classes.forEach((name, c) => {
    if (used.has(c)) $("class").append(html("option", {value: c}, name));
  });
  const orders = scored ? Object.keys(ORDERS) : ["name", "detections"];
  $("sort").append(...orders.map(name => html("option", {}, name)));
}

function listenToControls() {
  const on = (id, name, act) => $(id).addEventListener(name, act);
  for (const id of ["search", "class", "sort"]) on(id, "input", filter);
  for (const id of ["lam", "gamma"]) on(id, "input", slide);
  for (const name of ["play", "seeked", "timeupdate"]) on("player", name, follow);
  for (const box of document.querySelectorAll("[data-curve]")) {
    box.addEventListener("input", () => {
      state.curves[box.checked ? "add" : "delete"](box.dataset.curve);
      drawTimeline();
    });
  }
  on("list", "scroll", () => requestAnimationFrame(drawList));
  on("list", "keydown", event => {
    const moves = {ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8,
                   Home: -Infinity, End: Infinity};
    if (!(event.key in moves)) return;
    select(state.at + moves[event.key]);
    event.preventDefault();
  });
  on("next", "click", () => select(state.at + 1));
  on("previous", "click", () => select(state.at - 1));
  on("reset", "click", reset);
  on("in", "click", () => zoom(2));
  on("out", "click", () => zoom(0.5));
  on("timeline", "scroll", moveGutter);
  on("save", "click", saveTimeline);
  on("folder", "change", openFolder);
  document.addEventListener("keydown", keys);
}

function start() {
  const address = location.hash;
  const linked = data.videos.findIndex(video => "#" + encodeURIComponent(video.n) === address);
  fillMenus();
  listenToControls();
  drawLegend();
  filter();
  if (linked >= 0) select(state.shown.indexOf(linked));
  let width = $("timeline").clientWidth;
  new ResizeObserver(() => {
    if ($("timeline").clientWidth === width) return;
    width = $("timeline").clientWidth;
    drawTimeline();
    drawList();
  }).observe($("timeline"));
  $("training").hidden = !data.charts.length;
  data.charts.forEach(drawChart);
  $("errors").hidden = !scored;
  if (scored) drawProfile();
}

start();
