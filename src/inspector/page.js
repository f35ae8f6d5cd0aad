"use strict";
// What rooms are called and what they hold comes from strangers: it only ever becomes text.
const at = (id) => document.getElementById(id);
const api = (path, query) =>
  location.pathname.replace(/\/$/, "") + "/api/" + path + "?" + new URLSearchParams(query);
const token = document.querySelector("meta[name=token]").content;

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const foreign = (text) => make("bdi", {}, text);

function button(label, name, act) {
  return make("button", { type: "button", "aria-label": name, onclick: act }, label);
}

// Rows stay the elements they are, and where they are, so that neither focus nor selection is lost.
function fill(body, items, key, cells) {
  const old = new Map([...body.children].map((row) => [row.dataset.key, row]));
  const rows = items.map((item, index) => {
    const name = String(key(item, index));
    const row = old.get(name) ?? make("tr");
    // Strangers' names may look alike here that are not: each has a row.
    old.delete(name);
    row.dataset.key = name;
    row.texts ??= [];
    return row;
  });
  const stay = new Set(rows);
  [...body.children].forEach((row) => stay.has(row) || row.remove());
  items.forEach((item, index) => {
    const row = rows[index];
    cells(item).forEach(([text, kind, build], column) => {
      if (row.texts[column] === text) return;
      const cell = row.children[column] ?? row.appendChild(make("td", { className: kind }));
      const isNews = row.texts.length > column && kind === "value";
      row.texts[column] = text;
      cell.className = kind;
      cell.replaceChildren(build ? build() : text);
      if (isNews) {
        cell.classList.remove("new");
        void cell.offsetWidth;
        cell.classList.add("new");
      }
    });
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null);
  });
}

const number = (value) => [value.toLocaleString(), "number"];
const name = (text) => [text ?? "", "", () => (text === null ? "" : foreign(text))];

function bytes(count) {
  const [unit, size] = [["MB", 1e6], ["KB", 1e3]].find(([, size]) => count >= size) ?? ["B", 1];
  return (count / size).toFixed(size > 1 ? 1 : 0) + " " + unit;
}

const ago = (moment) => lasting(Math.max(0, Math.round((Date.now() - moment) / 1000)));

function lasting(seconds) {
  const [unit, size] = [["d", 86400], ["h", 3600], ["min", 60]].find(([, size]) => seconds >= size) ?? ["s", 1];
  return Math.floor(seconds / size) + " " + unit;
}

const when = (moment) => [moment === null ? "" : ago(moment) + " ago", "number"];

function say(text, isBad) {
  at("state").textContent = text;
  at("state").className = isBad ? "bad" : "";
}

// One stream at a time; its last news stands for the clock that counts how long ago things were.
let stream, again, retry;

function watch(url, show) {
  stream?.close();
  clearTimeout(retry);
  again = undefined;
  stream = new EventSource(url);
  stream.onopen = () => say("");
  stream.onerror = () => {
    if (stream.readyState !== EventSource.CLOSED) {
      say("The server does not answer.", true);
      return;
    }
    // A proxy without a server behind it, or too many such pages: that passes.
    say("The server does not show this. It is asked again in some seconds.", true);
    retry = setTimeout(() => watch(url, show), 3000);
  };
  stream.onmessage = (event) => {
    const news = JSON.parse(event.data);
    again = () => show(news);
    again();
  };
  stream.addEventListener("gone", () => {
    stream.close();
    again = undefined;
    say("This room is gone.");
  });
}

setInterval(() => again?.(), 1000);

// The list.

const columns = [
  ["id", "Room"], ["members", "Members"], ["variables", "Variables"],
  ["writes_per_second", "Writes/s"], ["bytes", "Bytes"],
];
const wanted = { search: "", sort: "members", page: 0, span: "minutes" };

// Made once, because a button that is replaced loses the focus.
const heads = new Map(columns.map(([sort, label]) => [sort,
  make("th", { scope: "col" }, button(label, "Sort by " + label, () => {
    Object.assign(wanted, { sort, page: 0 });
    list();
  }))]));
at("sorts").replaceChildren(...heads.values());

function list() {
  const isShown = !at("list").hidden;
  at("list").hidden = false;
  at("room").hidden = true;
  document.title = "Rooms";
  for (const [sort, head] of heads) {
    if (wanted.sort === sort) head.setAttribute("aria-sort", sort === "id" ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  }
  watch(api("rooms/live", wanted), showList);
  if (!isShown) at("title").focus();
}

function showList({ rooms, found, page, pages, stats, plots, store, relay, is_draining }) {
  wanted.page = page;
  draw(at("whole"), plots, [
    ["members", "Players"], ["rooms", "Rooms"], ["writes", "Writes/s"], ["deliveries", "Deliveries/s"],
    ["corrections", "Corrections/s"], ["round_trip_ms", "Round trip, ms"],
  ]);
  const facts = [
    ["Rooms", stats.rooms], ["Members", stats.members], ["Sessions", stats.sessions],
    ["Memory", bytes(stats.state_bytes) + " of " + bytes(stats.state_bytes_limit)],
  ];
  if (store) {
    facts.push(["Store", store.is_failing ? "fails: " + store.last_error : "works, " + store.unsaved + " unsaved"]);
  }
  if (relay) {
    const waiting = relay.rooms_waiting ? ", " + relay.rooms_waiting.toLocaleString() + " rooms wait" : "";
    facts.push(["Relay", (relay.is_failing ? "fails: " + relay.last_error : "works") + waiting]);
  }
  if (is_draining) facts.push(["State", "shutting down"]);
  at("stats").replaceChildren(...facts.map(([label, value]) =>
    make("div", {}, make("dt", {}, label), make("dd", {}, value.toLocaleString()))));
  fill(at("rooms"), rooms, (room) => room.id, (room) => [
    [room.id + (room.is_locked ? "\0" : ""), "", () => {
      const link = make("a", { href: "#" + encodeURIComponent(room.id) }, foreign(room.id));
      return room.is_locked ? make("span", {}, link, " (locked)") : link;
    }],
    [room.members + " of " + room.max_members, "number"],
    number(room.variables),
    number(room.writes_per_second),
    [bytes(room.bytes), "number"],
  ]);
  const view = relay ? " at this node" : "";
  at("page").textContent = ` ${found.toLocaleString()} found${view}, page ${page + 1} of ${pages} `;
  at("previous").disabled = page === 0;
  at("next").disabled = page + 1 >= pages;
}

let typing;
at("search").oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    Object.assign(wanted, { search: at("search").value, page: 0 });
    list();
  }, 200);
};
at("previous").onclick = () => { wanted.page = Math.max(0, wanted.page - 1); list(); };
at("next").onclick = () => { wanted.page += 1; list(); };

for (const span of ["minutes", "day"]) {
  at(span).onclick = () => {
    for (const other of ["minutes", "day"]) at(other).ariaPressed = String(other === span);
    wanted.span = span;
    list();
  };
}

// A room.

const past = { id: "", search: "", page: 0 };

// Asks for the room again, with another page of its past.
function look(change) {
  Object.assign(past, change);
  watch(api("room/live", past), showRoom);
}

at("past-search").oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(() => look({ search: at("past-search").value, page: 0 }), 200);
};
at("newer").onclick = () => look({ page: Math.max(0, past.page - 1) });
at("older").onclick = () => look({ page: past.page + 1 });

function room(id) {
  at("list").hidden = true;
  at("room").hidden = false;
  document.title = id + " – Rooms";
  at("name").textContent = id;
  for (const part of ["facts", "actions", "plots", "members", "variables", "bans", "history"]) at(part).replaceChildren();
  at("export").href = api("room/history", { id });
  at("past-search").value = "";
  look({ id, search: "", page: 0 });
  at("name").focus();
}

function showRoom(room) {
  const act = (action, question, body, field) => () => ask(room.id, action, question, body, field);
  at("facts").textContent =
    `${room.members.length} of ${room.max_members} members, ${bytes(room.bytes)}` + (room.is_locked ? ", locked" : "");
  if (token) {
    if (!at("actions").children.length) at("actions").append(button("", "", null), " ", button("", "", null), " ", button("", "", null));
    const [lock, close, remove] = at("actions").children;
    lock.textContent = room.is_locked ? "Unlock" : "Lock";
    lock.ariaLabel = lock.textContent + " the room";
    lock.onclick = act("lock", [room.is_locked ? "Let newcomers in again?" : "Let no newcomers in?"],
      () => ({ locked: !room.is_locked }));
    close.textContent = "Close";
    close.ariaLabel = "Close the room";
    close.onclick = act("close", ["Put all members out? The variables stay."], () => ({}));
    remove.textContent = "Remove";
    remove.ariaLabel = "Remove the room";
    remove.onclick = act("remove", ["Put all members out and forget the variables, in the store too?"], () => ({}));
  }
  draw(at("plots"), room.plots, [["writes", "Writes/s"], ["deliveries", "Deliveries/s"], ["corrections", "Corrections/s"]]);
  fill(at("members"), room.members, (member) => member.id, (member) => [
    [member.username, "", () => {
      const text = foreign(member.username);
      return member.is_read_only ? make("span", {}, text, " (read-only)") : text;
    }],
    name(member.person),
    [member.dialect, ""],
    [ago(member.connected_at), "number"],
    [member.round_trip_ms === null ? "" : member.round_trip_ms.toFixed(1) + " ms", "number"],
    number(member.waiting),
    ["actions", "number", () => !token ? "" : make("span", {},
      button("Kick", "Kick " + member.username, act("kick", ["Kick ", foreign(member.username), "?"],
        (reason) => ({ member: member.id, reason }), ["What the player is told", "kicked by the host"])),
      button("Ban", "Ban " + member.username, act("ban", ["Ban ", foreign(member.username), " from this room?"],
        (minutes) => ({ member: member.id, seconds: Math.round(60 * minutes) }), ["Minutes", "60", "number"])))],
  ]);
  fill(at("variables"), room.variables, (variable) => variable.name, (variable) => [
    name(variable.name),
    [variable.value + (variable.is_cut ? "…" : ""), "value", () => {
      const text = foreign(variable.value);
      return variable.is_cut ? make("span", {}, text, "…") : text;
    }],
    number(variable.bytes),
    writer(variable),
    when(variable.written_at),
    ["actions", "number", () => token ? make("span", {},
      button("Set", "Set " + variable.name, act("set", ["Set ", foreign(variable.name), "?"],
        (value) => ({ name: variable.name, value }), ["Value", ""])), " ",
      button("Remove", "Remove " + variable.name, act("unset",
        ["Remove ", foreign(variable.name), "? Members see the empty value. Only of a room that grows."],
        () => ({ name: variable.name })))) : ""],
  ]);
  at("banned").hidden = room.bans.length === 0;
  fill(at("bans"), room.bans, (ban) => ban.kind + ban.who, (ban) => [
    name(ban.who), [ban.kind, ""], [lasting(ban.seconds_left), "number"],
    ["actions", "number", () => token ? button("End", "End the ban of " + ban.who, act("unban",
      ["Let ", foreign(ban.who), " in again?"], () => ({ kind: ban.kind, who: ban.who }))) : ""],
  ]);
  at("past").hidden = room.history_len === 0;
  const pages = Math.max(1, Math.ceil(room.history_found / 50));
  at("past-page").textContent = ` ${room.history_found.toLocaleString()} found, page ${past.page + 1} of ${pages} `;
  at("newer").disabled = past.page === 0;
  at("older").disabled = past.page + 1 >= pages;
  fill(at("history"), room.history, (_, index) => index, (past) => [
    [new Date(past.at).toLocaleString(), "number"], name(past.by), name(past.variable),
    [past.value, "", () => foreign(past.value)],
  ]);
}

function writer(variable) {
  if (variable.by !== null) return name(variable.by);
  if (variable.written_at === null) return ["", ""];
  return [variable.writer === "left" ? "one who has left" : "the host, or another node", "faint"];
}

const SVG = "http://www.w3.org/2000/svg";

const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 3 });

// The next number of the form 1, 2 or 5 times a power of ten, for the top of an axis.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((top) => top >= value);
}

// Draws plots with axes. Each stays the element it is, so that a pointer on it goes on reading values.
function draw(place, plots, kinds) {
  kinds.forEach(([kind, label], n) => {
    const figure = place.children[n] ?? place.appendChild(newPlot());
    const seconds = (at) => (at + 1 < plots[kind].length ? plots.step_seconds : plots.last_seconds);
    const values = label.endsWith("/s") ? plots[kind].map((sum, at) => sum / seconds(at)) : plots[kind];
    const text = label + JSON.stringify(values);
    if (figure.dataset.text === text) return;
    figure.dataset.text = text;
    Object.assign(figure, { values, label, step: plots.step_seconds });
    const known = values.filter((value) => value !== null);
    const top = roundUp(Math.max(0.1, ...known));
    const last = values.length - 1;
    // A gap where nothing is known.
    let line = "";
    values.forEach((value, x) => {
      if (value === null) return;
      const starts = x === 0 || values[x - 1] === null;
      line += `${starts ? "M" : "L"}${((x / last) * 100).toFixed(2)} ${(40 - (value / top) * 40).toFixed(2)}`;
      if (starts && (x === last || values[x + 1] === null)) line += "h0.01";
    });
    figure.querySelector("path").setAttribute("d", line);
    figure.querySelector(".top").textContent = compact.format(top);
    const span = plots.step_seconds * values.length;
    figure.querySelector(".times").replaceChildren(...[1, 0.5].map((part) =>
      make("span", {}, lasting(span * part) + " ago")), make("span", {}, "now"));
    const most = known.length ? compact.format(Math.max(...known)) : "unknown";
    figure.querySelector("svg").setAttribute("aria-label",
      `${label} in ${lasting(span)}, at most ${most}, steps of ${lasting(plots.step_seconds)}`);
    read(figure);
  });
}

function newPlot() {
  const picture = document.createElementNS(SVG, "svg");
  for (const [attribute, value] of [["viewBox", "0 0 100 40"], ["preserveAspectRatio", "none"], ["role", "img"]]) {
    picture.setAttribute(attribute, value);
  }
  const mark = document.createElementNS(SVG, "line");
  for (const [attribute, value] of [["y1", 0], ["y2", 40], ["class", "mark"], ["visibility", "hidden"]]) {
    mark.setAttribute(attribute, value);
  }
  picture.append(document.createElementNS(SVG, "path"), mark);
  const figure = make("figure", {}, make("figcaption", {}), make("span", { className: "top" }),
    make("span", { className: "bottom" }, "0"), picture, make("div", { className: "times" }));
  picture.onpointermove = (event) => {
    const { left, width } = picture.getBoundingClientRect();
    const last = figure.values.length - 1;
    figure.read = Math.min(last, Math.max(0, Math.round(((event.clientX - left) / width) * last)));
    read(figure);
  };
  picture.onpointerleave = () => { figure.read = undefined; read(figure); };
  return figure;
}

// Shows the value under the pointer, or the latest one.
function read(figure) {
  const { values, label, step } = figure;
  const last = values.length - 1;
  const at = figure.read ?? last;
  const value = values[at] === null ? "unknown" : compact.format(values[at]);
  const time = at === last ? "" : `, ${lasting((last - at) * step)} ago`;
  figure.querySelector("figcaption").replaceChildren(label + " ", make("b", {}, value), time);
  const mark = figure.querySelector(".mark");
  mark.setAttribute("visibility", figure.read === undefined ? "hidden" : "visible");
  for (const x of ["x1", "x2"]) mark.setAttribute(x, (at / last) * 100);
}

function ask(id, action, question, body, field) {
  const dialog = at("dialog");
  at("question").replaceChildren(...question);
  at("field").hidden = !field;
  const [label, value, type] = field ?? ["", "", "text"];
  at("field").firstElementChild.textContent = label;
  Object.assign(at("answer"), { type: type ?? "text", value, min: 1, max: 1e9, required: type === "number" });
  at("yes").textContent = action[0].toUpperCase() + action.slice(1);
  at("yes").onclick = () => {
    if (!at("answer").reportValidity()) return;
    dialog.close();
    send(id, action, body(at("answer").value));
  };
  at("answer").onkeydown = (event) => {
    if (event.key === "Enter" && !event.isComposing) at("yes").click();
  };
  at("no").onclick = () => dialog.close();
  dialog.showModal();
}

async function send(id, action, body) {
  try {
    const headers = { "x-inspector-token": token };
    const answer = await fetch(api("room/" + action, { id }), { method: "POST", headers, body: JSON.stringify(body) });
    say(answer.ok ? "Done." : await answer.text(), !answer.ok);
  } catch {
    say("The server does not answer.", true);
  }
}

function route() {
  clearTimeout(typing);
  say("");
  let id = location.hash.slice(1);
  try {
    id = decodeURIComponent(id);
  } catch {
    // Then it is none that this page made.
  }
  if (id) room(id);
  else list();
}

addEventListener("hashchange", route);
route();
