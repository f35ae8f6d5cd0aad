// Cloud variables in the browser: a module without dependencies.
//
//   import { connect } from './cloud/client.js';
//   const cloud = connect('./cloud', { room: 'lobby', username: 'ann', variables: { score: '0' } });
//   cloud.on('set', (name, value) => console.log(name, value));
//   cloud.vars.score = '1';

/**
 * @typedef {object} Options
 * @property {string} room  The room to join, or to create.
 * @property {string} username
 * @property {Record<string, string>} variables  The variables and their first values. Those of a
 *   room that exists already count more; its names must be these.
 */

/**
 * @typedef {object} Closed
 * @property {number} code  The close code; 1006 where the connection broke.
 * @property {string} reason  A sentence for the player; may be empty.
 * @property {boolean} reconnecting  Whether the client comes back by itself.
 * @property {number} delay  In how many milliseconds; 0 where it does not.
 */

/**
 * @typedef {object} Cloud
 * @property {Record<string, string>} vars  The values. Assigning to one sets it for everyone.
 * @property {boolean} connected  Whether a handshake was sent on the connection that is open.
 * @property {{
 *   (event: 'set', listener: (name: string, value: string) => void): Cloud,
 *   (event: 'open', listener: () => void): Cloud,
 *   (event: 'close', listener: (closed: Closed) => void): Cloud,
 * }} on  'set': somebody else changed a variable. 'open': the handshake was sent; the protocol
 *   acknowledges nothing, so a refusal still follows as 'close'.
 * @property {(event: string, listener: Function) => Cloud} off
 * @property {() => void} close  Leaves the room and stays away.
 */

const FIRST_DELAY = 500;
const LONGEST_DELAY = 30_000;
/** A handshake that was not refused for so long (ms) has been accepted. */
const HELD_AFTER = 3_000;
/** Who joins a room is sent its values at once; who is not (ms) has created it. */
const SNAPSHOT_WITHIN = 1_000;
/** Incompatibility and username: the same handshake would be refused again. */
const FINAL_CODES = [4001, 4002];

/**
 * Joins a room and stays in it: reconnects where the protocol's status codes say so.
 *
 * @param {string | URL} url  Where the server mounts its rooms, relative to the page or absolute,
 *   with `http`, `https`, `ws` or `wss`.
 * @param {Options} options
 * @returns {Cloud}
 */
export function connect(url, { room, username, variables }) {
  const target = new URL(url, globalThis.location?.href);
  const values = new Map(Object.entries(variables));
  // The handshake never carries the current values: those of a room that grew may not fit.
  const handshake = JSON.stringify({ kind: 'handshake', room, username, variables });
  const listeners = { set: new Set(), open: new Set(), close: new Set() };
  /** Set while there was no connection that has held: the last value of each. */
  const unsent = new Map();
  /** Names whose values are from before the connection, and perhaps no longer the room's. */
  let stale = new Set();
  let socket = null;
  let connected = false;
  let hasHeld = false;
  let attempts = 0;
  let timer = null;
  let left = false;

  const emit = (event, ...details) => listeners[event].forEach((listener) => listener(...details));

  function held() {
    hasHeld = true;
    attempts = 0;
    unsent.clear();
  }

  function open() {
    const ws = new WebSocket(withScheme(target, { 'http:': 'ws:', 'https:': 'wss:' }));
    let opened = false;
    const timers = [];
    socket = ws;
    ws.onopen = () => {
      opened = connected = true;
      ws.send(handshake);
      unsent.forEach((value, name) => ws.send(setMessage(name, value)));
      stale = new Set([...values.keys()].filter((name) => !unsent.has(name)));
      timers.push(setTimeout(held, HELD_AFTER), setTimeout(forgetStale, SNAPSHOT_WITHIN));
      emit('open');
    };
    ws.onmessage = ({ data }) => {
      held();
      for (const line of data.split('\n')) {
        const message = JSON.parse(line);
        if (message.kind === 'set') receive(message.variable, message.value);
      }
    };
    ws.onclose = async ({ code, reason }) => {
      timers.forEach(clearTimeout);
      connected = hasHeld = false;
      // What the room has no place for would be refused again.
      if (code === 4000) unsent.clear();
      if (left) return;
      // A browser does not tell why an upgrade was refused; a plain request does.
      const refusal = opened ? null : await refusedBecause(target);
      if (!left) closed(code, refusal ?? reason, refusal !== null || FINAL_CODES.includes(code));
    };
  }

  function closed(code, reason, final) {
    const longest = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** attempts++);
    const delay = final ? 0 : longest * (0.5 + Math.random() / 2);
    left = final;
    if (!final) timer = setTimeout(open, delay);
    emit('close', { code, reason, reconnecting: !final, delay });
  }

  function receive(name, value) {
    stale.delete(name);
    values.set(name, value);
    emit('set', name, value);
  }

  /** The room that was is gone: the one that this client created has the declared values. */
  function forgetStale() {
    for (const name of stale) {
      if (!Object.hasOwn(variables, name)) values.delete(name);
      else if (values.get(name) !== variables[name]) receive(name, variables[name]);
    }
    stale.clear();
  }

  function set(name, value) {
    stale.delete(name);
    values.set(name, value);
    const isOpen = connected && socket.readyState === WebSocket.OPEN;
    if (isOpen) socket.send(setMessage(name, value));
    if (!isOpen || !hasHeld) unsent.set(name, value);
  }

  const cloud = {
    vars: variablesView(values, set),
    get connected() {
      return connected;
    },
    on(event, listener) {
      listeners[event].add(listener);
      return cloud;
    },
    off(event, listener) {
      listeners[event].delete(listener);
      return cloud;
    },
    close() {
      left = true;
      connected = false;
      clearTimeout(timer);
      socket.close(1000);
    },
  };
  open();
  return cloud;
}

function setMessage(variable, value) {
  return JSON.stringify({ kind: 'set', variable, value });
}

/** An object over a map, for which `__proto__`, `then` and the like are only names. */
function variablesView(values, set) {
  return new Proxy(Object.create(null), {
    get: (_, name) => (typeof name === 'string' ? values.get(name) : undefined),
    set: (_, name, value) => (set(String(name), String(value)), true),
    has: (_, name) => values.has(name),
    deleteProperty: () => false,
    ownKeys: () => [...values.keys()],
    getOwnPropertyDescriptor: (_, name) =>
      values.has(name)
        ? { value: values.get(name), writable: true, enumerable: true, configurable: true }
        : undefined,
  });
}

function withScheme(url, schemes) {
  const other = new URL(url);
  other.protocol = schemes[url.protocol] ?? url.protocol;
  return other;
}

/** What the server says to a plain request where it forbids the upgrade; else `null`. */
async function refusedBecause(target) {
  try {
    const response = await fetch(withScheme(target, { 'ws:': 'http:', 'wss:': 'https:' }));
    return [401, 403].includes(response.status) ? (await response.text()).trim() : null;
  } catch {
    return null;
  }
}
