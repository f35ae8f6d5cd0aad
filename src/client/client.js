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
 * @property {Record<string, string>} variables  The variables and their first values. The values of an
 *   existing room take precedence; its names must be the same.
 */

/**
 * @typedef {object} Closed
 * @property {number} code  The close code; 1006 if the connection broke.
 * @property {string} reason  A sentence for the player; may be empty.
 * @property {boolean} reconnecting  Whether the client comes back by itself.
 * @property {number} delay  In how many milliseconds; 0 if it does not.
 */

/**
 * @typedef {object} Cloud
 * @property {Record<string, string>} vars  The values. Assigning to one sets it for everyone. Until
 *   'open' they are the declared values, or, after a break, the last known ones.
 * @property {(name: string, change: (old: string) => unknown) => Promise<string>} update  Sets a variable
 *   to the result of `change` on its value, atomically: if another member sets it in between, `change` is
 *   called again with the new value. Resolves to the resulting value. Waits until the client is in the
 *   room. Fails if the connection breaks before the server has answered (the room may or may not have the
 *   value), or if others keep setting the variable. A server that does not support conditional sets treats
 *   it as an ordinary set.
 * @property {boolean} connected  Whether the client is in the room, and `vars` has its values.
 * @property {{
 *   (event: 'set', listener: (name: string, value: string) => void): Cloud,
 *   (event: 'open', listener: () => void): Cloud,
 *   (event: 'close', listener: (closed: Closed) => void): Cloud,
 * }} on  'set': another member set a variable, or the room's value differs from the shown one. 'open':
 *   the client is in the room, and `vars` has its values.
 * @property {(event: string, listener: Function) => Cloud} off
 * @property {() => void} close  Leaves the room and stays away.
 */

// Milliseconds.
const CONNECT_WITHIN = 10_000;
/** The longest delay after a break or a restart. It is random, so that not all clients reconnect at once. */
const AT_ONCE = 400;
const FIRST_DELAY = 500;
const LONGEST_DELAY = 4_000;
const FIRST_MINUTE = 60_000;
const LONGEST_DELAY_LATER = 30_000;
/** If a server acknowledges nothing, the client counts as joined this long after the handshake, */
const SILENT_JOIN = 5_000;
/** or this long after the first of the room's values. */
const LAST_VALUE = 500;

/** How many attempts an update makes while others set the variable. */
const MOST_ATTEMPTS = 1_000;

/** How many values of one variable are remembered that may be in flight: those of some minutes at 60 a second. */
const MOST_UNKNOWN = 10_000;

/** How often an update may be refused in a row by a room that has the value it builds on. */
const MOST_REFUSALS = 3;

/** After so many connections in a row that ended with 4000, a set that each carried counts as the reason. */
const REFUSALS = 2;

/** Milliseconds in the room that count as a stay: a server may let clients in, and then break. */
const SHORT_STAY = 2_000;

/** Incompatibility and username: the same handshake would be refused again. */
const FINAL_CODES = [4001, 4002];
/** The server goes away or restarts, or the connection broke. */
const PASSING_CODES = [1001, 1006, 1012];

/**
 * Joins a room and stays in it: reconnects if the protocol's status codes say so.
 *
 * @param {string | URL} url  The address of a mount, relative to the page or absolute, with `http`,
 *   `https`, `ws` or `wss`.
 * @param {Options} options
 * @returns {Cloud}
 */
export function connect(url, { room, username, variables }) {
  const target = new URL(url, globalThis.location?.href);
  // The handshake never carries the current values, because those of a room that grew may not fit. A server
  // that supports `acknowledge` says so at once. It then reports when the client has joined, and later which
  // of its sets were taken. Other servers ignore it.
  const resume = secretOf(room, username);
  const handshake = { kind: 'handshake', room, username, variables, acknowledge: true, resume };
  const listeners = { set: new Set(), open: new Set(), close: new Set() };
  const values = new Values(variables, (name, value) => emit('set', name, value));
  const server = { acknowledges: false };
  /** The current connection, if there is one. */
  let connection = null;
  let attempts = 0;
  let awaySince = Date.now();
  let joinedAt = 0;
  let timer = null;
  let left = false;
  let hasJoined = false;
  let hasInsisted = false;

  const emit = (event, ...details) => listeners[event].forEach((listener) => listener(...details));

  /** The callers that wait until the client is in the room, or never will be. */
  const waiting = [];
  const settle = (act) => waiting.splice(0).forEach(act);
  const whenJoined = () =>
    new Promise((resolve, reject) => {
      if (connection?.isJoined) return resolve();
      if (left) return reject(hasLeft());
      waiting.push({ resolve, reject });
    });

  function open() {
    connection = new Connection(withScheme(target, { 'http:': 'ws:', 'https:': 'wss:' }), {
      handshake: JSON.stringify(handshake),
      values,
      server,
      joined() {
        joinedAt = Date.now();
        hasJoined = true;
        hasInsisted = false;
        settle(({ resolve }) => resolve());
        emit('open');
      },
      closed,
    });
  }

  async function closed(code, reason, { wasOpen, wasJoined }) {
    connection = null;
    if (wasJoined && Date.now() - joinedAt >= SHORT_STAY) {
      awaySince = Date.now();
      attempts = 0;
    }
    // A browser does not reveal why an upgrade was refused.
    const refusal = wasOpen || left ? null : await refusedBecause(target);
    if (left) return;
    // The name may still belong to an earlier connection of this client, so it tries once more.
    const insists = code === 4002 && hasJoined && !wasJoined && !hasInsisted;
    hasInsisted ||= insists;
    left = refusal !== null || (FINAL_CODES.includes(code) && !insists);
    const delay = left ? 0 : nextDelay(wasJoined && PASSING_CODES.includes(code));
    if (!left) timer = setTimeout(open, delay);
    else settle(({ reject }) => reject(new Error(refusal ?? reason)));
    emit('close', { code, reason: refusal ?? reason, reconnecting: !left, delay });
  }

  function nextDelay(isPassing) {
    if (isPassing && attempts === 0) {
      // If the stay was short, the next break is not over at once.
      attempts = Date.now() - joinedAt < SHORT_STAY ? 1 : 0;
      return AT_ONCE * Math.random();
    }
    const isEarly = Date.now() - awaySince < FIRST_MINUTE;
    const longest = isEarly ? LONGEST_DELAY : LONGEST_DELAY_LATER;
    return Math.min(longest, FIRST_DELAY * 2 ** attempts++) * (0.75 + Math.random() / 2);
  }

  const cloud = {
    vars: variablesView(values, (name, value) => {
      values.set(name, value);
      connection?.send();
    }),
    async update(name, change) {
      const shown = () => values.shown.get(name) ?? '';
      let refused = 0;
      for (let attempt = 0; attempt < MOST_ATTEMPTS; attempt++) {
        await whenJoined();
        if (!connection?.isJoined) continue;
        const was = shown();
        const value = String(change(was));
        if (await connection.setIf(name, value, was)) return value;
        // The room's value came before the answer. If it is the same, nobody else has set the variable.
        refused = shown() === was ? refused + 1 : 0;
        if (refused === MOST_REFUSALS) throw new Error(`the room does not take '${name}'`);
      }
      throw new Error(`others set '${name}' all the time`);
    },
    get connected() {
      return connection?.isJoined ?? false;
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
      clearTimeout(timer);
      connection?.close();
      connection = null;
      settle(({ reject }) => reject(hasLeft()));
    },
  };
  open();
  return cloud;
}

/**
 * A secret by which the server recognizes a player that comes back. The player keeps their name at once, even
 * after a reload, if the browser lets a page store data for its tab.
 */
function secretOf(room, username) {
  const key = `cloud variables: ${JSON.stringify([room, username])}`;
  const store = access(() => sessionStorage);
  const kept = access(() => store.getItem(key));
  if (kept) return kept;
  const bytes = access(() => crypto.getRandomValues(new Uint8Array(16)));
  const secret = bytes && Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  access(() => store.setItem(key, secret));
  return secret;
}

/** Accesses a feature that a browser may refuse or not have. */
function access(what) {
  try {
    return what();
  } catch {
    return undefined;
  }
}

/**
 * The values that a client shows, those that the room is known to have, and the client's own sets that the
 * room may not have yet.
 */
class Values {
  shown;
  #declared;
  #changed;
  /** The values that the room may have, unless another member has set the variable since; usually one. */
  #known = new Map();
  /**
   * The last own set of each variable that is not known to have been taken, with the values that the room may
   * have if the set was lost and no other member has set the variable, and its place among the sets of the
   * connection (0: unsent). A set is in doubt if it was sent on a connection that is gone.
   */
  #own = new Map();
  /** The variables received on this connection. */
  #fresh = new Set();
  #sets = 0;
  /** How many connections in a row the server has closed with 4000. */
  #refusals = 0;

  constructor(declared, changed) {
    this.shown = new Map(Object.entries(declared));
    this.#declared = declared;
    this.#changed = changed;
  }

  /** Sets a variable for the player. */
  set(name, value) {
    const before = this.#own.get(name);
    // The room may have no such variable.
    const instead = before?.instead ?? new Set(this.#known.get(name) ?? [undefined]);
    // An earlier set that was sent may have arrived.
    if (before && (before.place > 0 || before.inDoubt) && instead.size < MOST_UNKNOWN) {
      instead.add(before.value);
    }
    // Moved to the end, because sets are sent in the order in which they were made.
    this.#own.delete(name);
    this.#own.set(name, { value, instead, place: 0, inDoubt: false });
    this.shown.set(name, value);
  }

  /** Begins a connection. */
  begin() {
    this.#fresh.clear();
    this.#sets = 0;
  }

  /** Notes that the room has this value. Until the client has joined, this does not replace its own sets. */
  receive(name, value, isJoined) {
    this.#fresh.add(name);
    this.#known.set(name, [value]);
    const own = this.#own.get(name);
    if (own && !isJoined) return;
    if (own) own.instead.add(value);
    // Reported even if it is the same: a set may be a message.
    this.shown.set(name, value);
    this.#changed(name, value);
  }

  /**
   * Completes the join. If the server has confirmed it, each variable was received on this connection, or has
   * its declared value. A set in doubt was lost if the room has a value from before it. If the room has
   * another value, another member has set the variable since.
   */
  join(isKnown, isNew) {
    if (isKnown) {
      for (const name of new Set([...this.shown.keys(), ...Object.keys(this.#declared)])) {
        if (!this.#fresh.has(name)) this.#isAsDeclared(name);
      }
    }
    for (const [name, own] of this.#own) {
      const now = this.#known.get(name)?.at(-1);
      const isLost = now !== own.value && (isNew || own.instead.has(now));
      if (!own.inDoubt || isLost) {
        own.instead = new Set([now]);
        this.#show(name, own.value);
        continue;
      }
      this.#own.delete(name);
      if (now === undefined) this.shown.delete(name);
      else this.#show(name, now);
    }
  }

  #isAsDeclared(name) {
    if (Object.hasOwn(this.#declared, name)) {
      this.#known.set(name, [this.#declared[name]]);
      if (!this.#own.has(name)) this.#show(name, this.#declared[name]);
    } else {
      this.#known.delete(name);
      if (!this.#own.has(name)) this.shown.delete(name);
    }
  }

  /** Takes the sets to send, in the order in which they were made. */
  *unsent() {
    for (const [name, own] of this.#own) {
      if (own.place > 0) continue;
      own.place = ++this.#sets;
      yield [name, own.value];
    }
  }

  /**
   * Notes a conditional set, which applies only if the room has the value that is shown. It is not sent
   * again.
   */
  update(name, value) {
    this.#sets++;
    // The room may have it from now on, also if a later set is lost.
    const own = this.#own.get(name);
    if (own) own.instead.add(value);
    else this.#known.set(name, [...(this.#known.get(name) ?? []), value]);
    this.shown.set(name, value);
  }

  /** Notes that the room has taken this many of the connection's sets. */
  taken(sets = this.#sets) {
    this.#refusals = 0;
    for (const [name, own] of this.#own) {
      if (own.place === 0 || own.place > sets) continue;
      // If another value has come since it was set, either may be the later one.
      this.#known.set(name, [own.value, this.shown.get(name)]);
      this.#own.delete(name);
    }
  }

  /** Returns how many sets were sent on this connection. */
  get sent() {
    return this.#sets;
  }

  /**
   * Ends the connection. A set that would only be refused again is given up: the longest after 1009, because the
   * server does not take a message that long; one of a variable that was not declared after 4000, if that is not
   * the first in a row, because the room may have no place for it.
   */
  end(code) {
    this.#refusals = code === 4000 ? this.#refusals + 1 : 0;
    const sent = [...this.#own].filter(([, own]) => own.place > 0);
    sent.sort(([, a], [, b]) => b.value.length - a.value.length);
    sent.forEach(([name, own], at) => {
      Object.assign(own, { place: 0, inDoubt: true });
      const isUnknown = this.#refusals >= REFUSALS && !Object.hasOwn(this.#declared, name);
      if (isUnknown || (code === 1009 && at === 0)) this.#own.delete(name);
    });
  }

  #show(name, value) {
    if (this.shown.get(name) === value) return;
    this.shown.set(name, value);
    this.#changed(name, value);
  }
}

/** One WebSocket, from its opening to its end. */
class Connection {
  isJoined = false;
  #socket;
  #values;
  /** The knowledge of the server from earlier connections. */
  #server;
  #tell;
  #isOpen = false;
  /** Whether the server has said that it acknowledges. */
  #acknowledges = false;
  #timers = new Set();
  /** The callers that wait for the result of an update, by number. */
  #asked = new Map();
  #numbered = 0;

  constructor(url, { handshake, values, server, joined, closed }) {
    this.#values = values;
    this.#server = server;
    this.#tell = { joined, closed };
    this.#socket = new WebSocket(url);
    this.#socket.onopen = () => {
      this.#isOpen = true;
      this.#clearTimers();
      values.begin();
      this.#socket.send(handshake);
      // If the server does not say that it acknowledges, only silence remains to go by. A server that
      // acknowledged before has then not been reached: if the client assumed to be in, it would mistake
      // refused updates for silence.
      if (server.acknowledges) this.#after(CONNECT_WITHIN, () => this.#stalled());
      else this.#after(SILENT_JOIN, () => this.#join(false, false));
    };
    this.#socket.onmessage = ({ data }) => {
      for (const line of data.split('\n')) this.#receive(JSON.parse(line));
    };
    this.#socket.onclose = ({ code, reason }) => this.#end(code, reason);
    this.#after(CONNECT_WITHIN, () => this.close(1006));
  }

  #receive(message) {
    if (message.kind === 'set') {
      this.#values.receive(message.variable, message.value, this.isJoined);
      if (this.isJoined || this.#acknowledges) return;
      this.#after(LAST_VALUE, () => this.#join(false, false));
    } else if (message.kind === 'joining') {
      // The server will say when the client has joined, so the timeouts for a silent server no longer apply.
      this.#acknowledges = this.#server.acknowledges = true;
      this.#clearTimers();
    } else if (message.kind === 'joined') {
      this.#join(true, message.created);
    } else if (message.kind === 'taken') {
      this.#values.taken(message.sets);
    } else if (message.kind === 'ack') {
      const asked = this.#asked.get(message.ack);
      this.#asked.delete(message.ack);
      if (message.ok === null) asked?.reject(unknown());
      else asked?.resolve(message.ok);
    }
  }

  /** Forgets that the server acknowledges, because the next connection may be to a server of another kind. */
  #stalled() {
    this.#server.acknowledges = false;
    this.close(1006);
  }

  /** Sets a variable if the room has the value `was`. Resolves to whether it had. */
  setIf(variable, value, was) {
    // Earlier sets go first.
    this.send();
    this.#values.update(variable, value);
    const ack = ++this.#numbered;
    this.#socket.send(JSON.stringify({ kind: 'set', variable, value, was, ack }));
    // Other servers treat it as an ordinary set, and do not answer.
    if (!this.#acknowledges) return Promise.resolve(true);
    return new Promise((resolve, reject) => this.#asked.set(ack, { resolve, reject }));
  }

  #join(isKnown, isNew) {
    if (this.isJoined) return;
    this.isJoined = true;
    this.#clearTimers();
    this.#values.join(isKnown, isNew);
    this.send();
    this.#tell.joined();
  }

  /** Sends the unsent sets, if the client has joined and the socket is open. */
  send() {
    if (!this.isJoined || this.#socket.readyState !== WebSocket.OPEN) return;
    for (const [variable, value] of this.#values.unsent()) {
      this.#socket.send(JSON.stringify({ kind: 'set', variable, value }));
    }
    if (this.#acknowledges) return;
    const { sent } = this.#values;
    this.#after(SILENT_JOIN, () => this.#values.taken(sent));
  }

  /** Leaves, and reports the end if a code is given. */
  close(code) {
    this.#socket.onclose = null;
    this.#socket.onmessage = null;
    this.#socket.close(1000);
    if (code === undefined) this.#giveUp();
    else this.#end(code, '');
  }

  /** Rejects all pending updates, because no answer can come any more. */
  #giveUp() {
    this.#clearTimers();
    this.#asked.forEach(({ reject }) => reject(unknown()));
    this.#asked.clear();
  }

  #end(code, reason) {
    this.#values.end(code);
    const was = { wasOpen: this.#isOpen, wasJoined: this.isJoined };
    this.isJoined = false;
    this.#giveUp();
    this.#tell.closed(code, reason, was);
  }

  #after(milliseconds, act) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, milliseconds);
    this.#timers.add(timer);
  }

  #clearTimers() {
    this.#timers.forEach(clearTimeout);
    this.#timers.clear();
  }
}

function hasLeft() {
  return new Error('the client has left the room');
}

function unknown() {
  return new Error('the connection broke: whether the value was set is not known');
}

/** Returns a view of a map in which `__proto__`, `then` and the like are ordinary names. */
function variablesView({ shown }, set) {
  return new Proxy(Object.create(null), {
    get: (_, name) => (typeof name === 'string' ? shown.get(name) : undefined),
    set: (_, name, value) => (set(String(name), String(value)), true),
    has: (_, name) => shown.has(name),
    deleteProperty: () => false,
    ownKeys: () => [...shown.keys()],
    getOwnPropertyDescriptor: (_, name) =>
      shown.has(name)
        ? { value: shown.get(name), writable: true, enumerable: true, configurable: true }
        : undefined,
  });
}

function withScheme(url, schemes) {
  const other = new URL(url);
  other.protocol = schemes[url.protocol] ?? url.protocol;
  return other;
}

/** Returns the text with which the server, or a layer before it, forbids the upgrade; otherwise `null`. */
async function refusedBecause(target) {
  const page = withScheme(target, { 'ws:': 'http:', 'wss:': 'https:' });
  const mount = new URL(page);
  mount.pathname = `${page.pathname.replace(/\/$/, '')}/client.js`;
  // By POST, because a page sends no origin with a GET of its own site.
  let response = await answer(mount, { method: 'POST', credentials: 'include' });
  // If the POST did not reach the mount, a layer's answer to it may differ from its answer to an upgrade.
  if (!response?.headers.has('cloud-variables')) response = await answer(page);
  return [401, 403].includes(response?.status) ? (await response.text()).trim() : null;
}

async function answer(url, options) {
  try {
    return await fetch(url, options);
  } catch {
    return null;
  }
}
