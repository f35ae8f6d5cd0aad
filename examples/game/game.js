// A small game over cloud variables. Each player's place is in a variable of their own, `p_<name>`,
// which nobody else writes; `star` belongs to all. The server knows nothing of either.

import { connect } from './cloud/client.js';
import { Field, HEIGHT, RADIUS, WIDTH, hueOf, inside, newPlayer } from './field.js';
import { Input } from './input.js';

/** Field units a second. */
const SPEED = 320;
/** How near (field units) one must come to a star. */
const REACH = RADIUS + 18;

// Milliseconds.
const SEND_EVERY = 50;
/** Who stands still says so this often; a bit early, as timers are late. */
const HEARTBEAT = 900;
const FADED_AFTER = 5_000;
const GONE_AFTER = 15_000;

const page = (id) => document.getElementById(id);
const dialog = page('dialog');
const canvas = page('field');
const nameInput = page('name');
const room = new URLSearchParams(location.search).get('room') || 'lobby';

const field = new Field(canvas);
const input = new Input(canvas, (event) => field.toField(event));
const players = new Map();
let me = newPlayer('', { x: WIDTH / 2, y: HEIGHT / 2 });
let state = 'joining';
let cloud = null;
/** How many stars were caught in this room; which one it is tells where it lies. */
let stars = 0;
/** What each variable was when it was last heard of by this connection. */
const heard = new Map();
const sent = { place: '', at: 0, count: 0 };
let stepped = 0;

// --- Joining, and how the connection does ---

function join(name) {
  cloud?.close();
  heard.clear();
  if (name !== me.name) me = newPlayer(name, somewhere());
  players.delete(name);
  complain('');
  page('join').textContent = 'Joining…';
  const variables = { [`p_${name}`]: value(), star: String(stars) };
  cloud = connect('./cloud', { room, username: name, variables });
  cloud.on('set', received).on('close', closed).on('open', opened);
}

function opened() {
  show('connected', 'connected');
  sessionStorage.setItem('name', me.name);
  if (dialog.open) {
    dialog.close();
    canvas.focus();
  }
}

function closed({ code, reason, reconnecting }) {
  // When it comes back, the whole room is told anew.
  heard.clear();
  if (code === 4002) return ask(reason);
  if (!reconnecting) {
    show('stopped', 'stopped', reason || 'The connection is closed.');
    page('reload').hidden = code !== 4001;
    page('login').hidden = code === 4001;
    dialog.close();
  } else if (dialog.open) {
    complain(reason || 'The server does not answer. Still trying…');
  } else {
    show('reconnecting', 'reconnecting…', `Reconnecting… ${reason && `(${reason})`}`);
  }
}

/** Asks for a name, and says what was wrong with the one before. */
function ask(error) {
  show('joining', 'choose a name');
  input.stop();
  page('join').textContent = 'Join';
  if (!dialog.open) dialog.showModal();
  complain(error);
  nameInput.select();
}

function complain(error) {
  page('error').textContent = error;
  nameInput.setAttribute('aria-invalid', String(error !== ''));
}

function show(next, status, message = '') {
  document.body.dataset.state = state = next;
  page('status').textContent = status;
  page('message').textContent = message;
  page('banner').hidden = message === '';
}

page('form').addEventListener('submit', (event) => {
  event.preventDefault();
  join(nameInput.value.trim());
});
// Escape closes a dialog; but there is nothing to see without a name.
dialog.addEventListener('close', () => state === 'joining' && dialog.showModal());
page('reload').addEventListener('click', () => location.reload());

// --- What is shared ---

function value() {
  return `${place()},${sent.count}`;
}

function place() {
  return `${Math.round(me.x)},${Math.round(me.y)},${me.score}`;
}

/** Tells the others what is new; once a second, that nothing is. */
function send(now) {
  if (state !== 'connected') return;
  if (place() === sent.place && now - sent.at < HEARTBEAT) return;
  Object.assign(sent, { place: place(), at: now, count: sent.count + 1 });
  cloud.vars[`p_${me.name}`] = value();
}

function received(variable, text) {
  const before = heard.get(variable);
  heard.set(variable, text);
  // What the room had before we came may be of a player long gone: a change is a sign of life.
  const live = before !== undefined && before !== text;
  if (variable === 'star') starIs(Number(text), live);
  else if (variable.startsWith('p_')) playerIs(variable.slice(2), text, live);
  // The timers of a hidden tab rest up to a minute, but messages come.
  if (document.hidden) tick();
}

function playerIs(name, text, live) {
  const [x, y, score] = text.split(',').map(Number);
  if (![x, y, score].every(Number.isFinite)) return;
  if (name === me.name) {
    // The room remembers what was caught before this tab was reloaded.
    me.score = Math.max(me.score, score);
    return;
  }
  if (!live) return;
  const player = players.get(name) ?? newPlayer(name, inside({ x, y }));
  players.set(name, Object.assign(player, inside({ x, y }), { score, seen: performance.now() }));
}

/** The count only grows, so whoever knows more than the room tells it. */
function starIs(count, live) {
  if (!Number.isSafeInteger(count) || count === stars) return;
  if (count < stars) {
    cloud.vars.star = stars;
  } else {
    if (live) field.ring(starPlace());
    stars = count;
  }
}

/** The same in every tab: two who catch a star at once write the same value. */
function starPlace() {
  const spread = (step, size) => 60 + (((stars + 1) * step) % 1) * (size - 120);
  return { x: spread(0.7548776662, WIDTH), y: spread(0.569840291, HEIGHT) };
}

// --- Playing ---

/** What goes on also while nothing is drawn. */
function tick() {
  const now = performance.now();
  step(now);
  send(now);
  for (const [name, player] of players) {
    player.faded = now - player.seen > FADED_AFTER;
    if (now - player.seen > GONE_AFTER) players.delete(name);
  }
  showScores();
}

function step(now) {
  const seconds = Math.min(0.1, (now - stepped) / 1000);
  stepped = now;
  if (state === 'joining') return;
  input.move(me, SPEED * seconds);
  Object.assign(me, inside(me));
  const star = starPlace();
  if (state === 'connected' && Math.hypot(me.x - star.x, me.y - star.y) < REACH) {
    field.ring(star);
    me.score += 1;
    stars += 1;
    cloud.vars.star = stars;
  }
}

function frame() {
  const now = performance.now();
  step(now);
  const playing = state === 'joining' ? [] : [me];
  field.draw([...players.values(), ...playing], starPlace(), me, now);
  requestAnimationFrame(frame);
}

function showScores() {
  const all = state === 'joining' ? [] : [me, ...players.values()];
  all.sort((a, b) => b.score - a.score || (a.name < b.name ? -1 : 1));
  const text = all.map(({ name, score }) => `${name} ★ ${score}`);
  const list = page('scores');
  if (list.dataset.shown === text.join()) return;
  list.dataset.shown = text.join();
  list.replaceChildren(
    ...all.map((player, at) => {
      const item = document.createElement('li');
      item.className = player === me ? 'pill me' : 'pill';
      item.style.setProperty('--hue', hueOf(player.name));
      item.textContent = text[at];
      return item;
    }),
  );
}

function somewhere() {
  return inside({ x: Math.random() * WIDTH, y: Math.random() * HEIGHT });
}

/** For the console, and for tests. */
window.game = {
  get name() {
    return state === 'joining' ? '' : me.name;
  },
  get me() {
    return { x: me.x, y: me.y, score: me.score };
  },
  get star() {
    return starPlace();
  },
  players,
  moveTo(x, y) {
    input.stop();
    Object.assign(me, inside({ x, y }));
  },
};

page('room').textContent = room;
page('login').href += location.search;
nameInput.value = sessionStorage.getItem('name') ?? '';
ask('');
setInterval(tick, SEND_EVERY);
requestAnimationFrame(frame);
