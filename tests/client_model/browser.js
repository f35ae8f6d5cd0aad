// What a browser offers to a page, with a clock that is moved by hand and sockets that the test carries.

let now = 0;
let lastTimer = 0;
const timers = new Map();
globalThis.setTimeout = (act, milliseconds = 0) => {
  timers.set(++lastTimer, { at: now + Math.max(0, milliseconds), act });
  return lastTimer;
};
globalThis.clearTimeout = (timer) => timers.delete(timer);
Date.now = () => now;
globalThis.fetch = () => Promise.reject(new Error('there is nobody to ask'));

const earliest = () => [...timers].reduce((a, b) => (b[1].at < a[1].at ? b : a), [0, { at: Infinity }]);
/** When something is due by itself. */
globalThis.nextTimer = () => earliest()[1].at;
globalThis.passTo = (time) => {
  for (let [timer, { at, act }] = earliest(); at <= time; [timer, { at, act }] = earliest()) {
    timers.delete(timer);
    now = Math.max(now, at);
    act();
  }
  now = time;
};

globalThis.URL = class {
  constructor(url) {
    Object.assign(this, { href: String(url.href ?? url), protocol: 'ws:', pathname: '/cloud' });
  }
};

const kept = new Map();
globalThis.sessionStorage = {
  getItem: (key) => kept.get(key) ?? null,
  setItem: (key, value) => kept.set(key, value),
};
globalThis.crypto = {
  getRandomValues: (bytes) => bytes.map(() => Math.floor(Math.random() * 256)),
};

const sockets = [];
/** What pages ask of the network: [socket, what, text]. */
const asked = [];
globalThis.takeAsked = () => JSON.stringify(asked.splice(0));
globalThis.WebSocket = class {
  static OPEN = 1;
  readyState = 0;
  constructor(url) {
    this.number = sockets.push(this) - 1;
    asked.push([this.number, 'open', url.href]);
  }
  send(text) {
    if (this.readyState === 1) asked.push([this.number, 'send', text]);
  }
  close() {
    if (this.readyState > 1) return;
    this.readyState = 2;
    asked.push([this.number, 'close', '']);
  }
};
globalThis.happen = (number, what, code, text) => {
  const socket = sockets[number];
  if (socket.readyState === 3) return;
  if (what === 'open' && socket.readyState === 0) {
    socket.readyState = 1;
    socket.onopen?.();
  } else if (what === 'message' && socket.readyState === 1) {
    socket.onmessage?.({ data: text });
  } else if (what === 'close') {
    socket.readyState = 3;
    socket.onclose?.({ code, reason: text });
  }
};

const tabs = [];
const shown = [];
globalThis.takeShown = () => JSON.stringify(shown.splice(0));
globalThis.openTab = (username, variables) => {
  const tab = tabs.length;
  const cloud = connect(`ws://host/cloud?${tab}`, { room: 'room', username, variables });
  cloud.on('set', (name, value) => shown.push([tab, name, value]));
  cloud.on('close', (closed) => {
    lastClose[tab] = JSON.stringify({ at: now, ...closed });
  });
  tabs.push(cloud);
};
globalThis.setIn = (tab, name, value) => {
  tabs[tab].vars[name] = value;
};
/** What came of increments by updates: how many stand, of how many nobody knows, and what else. */
const updated = { sure: 0, unknown: 0, other: [] };
globalThis.addIn = (tab, name) => {
  tabs[tab].update(name, (old) => Number(old) + 1).then(
    () => updated.sure++,
    (error) => (/not known/.test(error.message) ? updated.unknown++ : updated.other.push(error.message)),
  );
};
globalThis.takeUpdated = () => JSON.stringify(updated);
globalThis.seenBy = (tab) => JSON.stringify({ ...tabs[tab].vars });
globalThis.isIn = (tab) => tabs[tab].connected;
const lastClose = [];
/** For people who read of a failure. */
globalThis.closedLast = (tab) => lastClose[tab] ?? '';
