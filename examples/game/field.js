// The field and all that is drawn on it.

export const WIDTH = 1000;
export const HEIGHT = 600;
export const RADIUS = 24;

/** How long (ms) a trail is, and a ring where a star was caught. */
const TRAIL = 350;
const RING = 600;
/** How fast what is shown follows what is known: the share of the way left after 1 s is e^-PULL. */
const PULL = 12;

const calm = matchMedia('(prefers-reduced-motion: reduce)');
const dark = matchMedia('(prefers-color-scheme: dark)');

/** Somebody on the field: where they are, and how far what is shown of it has come. */
export function newPlayer(name, { x, y }) {
  const known = { name, x, y, score: 0, seen: 0, faded: false };
  return { ...known, shownX: x, shownY: y, alpha: 0, look: { x: 0, y: 0 }, trail: [] };
}

/** Everyone has the same colour in every tab. */
export function hueOf(name) {
  let hash = 0;
  for (const letter of name) hash = (Math.imul(hash, 31) + letter.codePointAt(0)) >>> 0;
  return Math.round((hash * 137.508) % 360);
}

export class Field {
  #canvas;
  #pen;
  #colours;
  #scale = 1;
  #left = 0;
  #top = 0;
  #rings = [];
  #last = 0;

  constructor(canvas) {
    this.#canvas = canvas;
    this.#pen = canvas.getContext('2d');
    this.#readColours();
    dark.addEventListener('change', () => this.#readColours());
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  /** The place in the field that a pointer event means. */
  toField({ offsetX, offsetY }) {
    const x = (offsetX - this.#left) / this.#scale;
    const y = (offsetY - this.#top) / this.#scale;
    return inside({ x, y });
  }

  /** Shows that a star was caught here. */
  ring({ x, y }) {
    this.#rings.push({ x, y, since: this.#last });
  }

  draw(players, star, me, now) {
    const pen = this.#pen;
    const seconds = Math.min(0.1, (now - this.#last) / 1000);
    this.#last = now;
    const ratio = devicePixelRatio;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    pen.translate(this.#left, this.#top);
    pen.scale(this.#scale, this.#scale);
    this.#drawGround();
    for (const player of players) follow(player, player === me, seconds, now);
    if (!calm.matches) for (const player of players) this.#drawTrail(player, now);
    this.#drawRings(now);
    if (star) this.#drawStar(star, now);
    for (const player of players) this.#drawPlayer(player, player === me);
    for (const player of players) this.#drawName(player, player === me);
  }

  #readColours() {
    // A canvas has no use for var() or light-dark(): an element's colour resolves them.
    const probe = document.body.appendChild(document.createElement('i'));
    const read = (name) => {
      probe.style.color = `var(--${name})`;
      return getComputedStyle(probe).color;
    };
    const names = ['field', 'dots', 'edge', 'ink', 'panel', 'star', 'accent'];
    this.#colours = Object.fromEntries(names.map((name) => [name, read(name)]));
    probe.remove();
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    this.#canvas.width = width * devicePixelRatio;
    this.#canvas.height = height * devicePixelRatio;
    // Above and below stay free for the header and the scores.
    this.#scale = Math.max(0.1, Math.min((width - 24) / WIDTH, (height - 120) / HEIGHT));
    this.#left = (width - WIDTH * this.#scale) / 2;
    this.#top = (height - HEIGHT * this.#scale) / 2;
  }

  #drawGround() {
    const pen = this.#pen;
    pen.fillStyle = this.#colours.field;
    pen.strokeStyle = this.#colours.edge;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.roundRect(0, 0, WIDTH, HEIGHT, 28);
    pen.fill();
    pen.stroke();
    pen.fillStyle = this.#colours.dots;
    pen.beginPath();
    for (let x = 50; x < WIDTH; x += 50) {
      for (let y = 50; y < HEIGHT; y += 50) {
        pen.moveTo(x + 3, y);
        pen.arc(x, y, 3, 0, 7);
      }
    }
    pen.fill();
  }

  #drawTrail(player, now) {
    const pen = this.#pen;
    pen.fillStyle = colourOf(player, 65);
    for (const { x, y, at } of player.trail) {
      const age = (now - at) / TRAIL;
      pen.globalAlpha = 0.1 * player.alpha * (1 - age);
      pen.beginPath();
      pen.arc(x, y, RADIUS * (0.95 - age * 0.6), 0, 7);
      pen.fill();
    }
    pen.globalAlpha = 1;
  }

  #drawPlayer({ shownX, shownY, alpha, look, name }, isMe) {
    const pen = this.#pen;
    const speed = Math.min(1, Math.hypot(look.x, look.y));
    const heading = Math.atan2(look.y, look.x);
    const stretch = calm.matches ? 0 : speed * 0.16;
    pen.save();
    pen.globalAlpha = alpha;
    pen.translate(shownX, shownY);
    pen.fillStyle = '#0000001f';
    pen.beginPath();
    pen.ellipse(0, RADIUS * 0.95, RADIUS * 0.8, RADIUS * 0.25, 0, 0, 7);
    pen.fill();
    const body = pen.createRadialGradient(-8, -10, 3, 0, 0, RADIUS * 1.2);
    body.addColorStop(0, colourOf({ name }, 78));
    body.addColorStop(1, colourOf({ name }, 58));
    pen.fillStyle = body;
    pen.beginPath();
    pen.ellipse(0, 0, RADIUS * (1 + stretch), RADIUS * (1 - stretch), heading, 0, 7);
    pen.fill();
    if (isMe) {
      pen.strokeStyle = this.#colours.ink;
      pen.lineWidth = 2.5;
      pen.stroke();
    }
    for (const side of [-8, 8]) {
      const [x, y] = [side + look.x * 5, -3 + look.y * 5];
      dot(pen, x, y, 6, '#fff');
      dot(pen, x + look.x * 2.5, y + look.y * 2.5, 3, '#2b2840');
    }
    pen.restore();
  }

  #drawName({ shownX, shownY, alpha, name }, isMe) {
    const pen = this.#pen;
    const label = name.length > 20 ? `${name.slice(0, 19)}…` : name;
    pen.save();
    pen.globalAlpha = alpha;
    // On a phone the field is small, but names are to be read.
    const size = Math.max(17, 11 / this.#scale);
    pen.font = `${isMe ? 600 : 400} ${size}px system-ui, sans-serif`;
    pen.textAlign = 'center';
    pen.textBaseline = 'middle';
    const half = pen.measureText(label).width / 2 + size * 0.5;
    const x = Math.min(WIDTH - half - 4, Math.max(half + 4, shownX));
    const away = RADIUS + 4 + size;
    const y = shownY + away + size > HEIGHT ? shownY - away : shownY + away;
    pen.fillStyle = this.#colours.panel;
    pen.beginPath();
    pen.roundRect(x - half, y - size * 0.75, half * 2, size * 1.5, size * 0.75);
    pen.fill();
    pen.fillStyle = this.#colours.ink;
    pen.fillText(label, x, y + 1);
    pen.restore();
  }

  #drawStar({ x, y }, now) {
    const pen = this.#pen;
    const turn = calm.matches ? 0 : now / 1600;
    const size = calm.matches ? 20 : 20 + Math.sin(now / 300) * 1.5;
    pen.save();
    pen.translate(x, y);
    pen.rotate(turn);
    pen.fillStyle = this.#colours.star;
    pen.globalAlpha = 0.18;
    dot(pen, 0, 0, size * 1.7, this.#colours.star);
    pen.globalAlpha = 1;
    pen.strokeStyle = this.#colours.star;
    pen.lineJoin = 'round';
    pen.lineWidth = 5;
    pen.beginPath();
    for (let tip = 0; tip < 10; tip++) {
      const radius = tip % 2 ? size * 0.5 : size;
      const angle = (tip * Math.PI) / 5 - Math.PI / 2;
      pen.lineTo(Math.cos(angle) * radius, Math.sin(angle) * radius);
    }
    pen.closePath();
    pen.fill();
    pen.stroke();
    pen.restore();
  }

  #drawRings(now) {
    const pen = this.#pen;
    this.#rings = this.#rings.filter(({ since }) => now - since < RING);
    pen.strokeStyle = this.#colours.star;
    for (const { x, y, since } of this.#rings) {
      const age = (now - since) / RING;
      pen.globalAlpha = 1 - age;
      pen.lineWidth = 6 * (1 - age);
      pen.beginPath();
      pen.arc(x, y, calm.matches ? 30 : 20 + age * 50, 0, 7);
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }
}

/** The nearest place where a player has room. */
export function inside({ x, y }) {
  const clamp = (value, most) => Math.min(most - RADIUS, Math.max(RADIUS, value));
  return { x: clamp(x, WIDTH), y: clamp(y, HEIGHT) };
}

/** Brings what is shown of a player closer to what is known; of this tab's own, all of the way. */
function follow(player, isMe, seconds, now) {
  const share = isMe ? 1 : 1 - Math.exp(-PULL * seconds);
  const [dx, dy] = [(player.x - player.shownX) * share, (player.y - player.shownY) * share];
  player.shownX += dx;
  player.shownY += dy;
  player.alpha += ((player.faded ? 0.3 : 1) - player.alpha) * Math.min(1, seconds * 6);
  // Eyes turn to where they go: 1 is about as fast as anyone moves.
  const full = 320 * Math.max(seconds, 0.001);
  const length = Math.max(1, Math.hypot(dx, dy) / full);
  const turn = Math.min(1, seconds * 12);
  player.look.x += (dx / full / length - player.look.x) * turn;
  player.look.y += (dy / full / length - player.look.y) * turn;
  if (Math.hypot(dx, dy) > 0.5) player.trail.push({ x: player.shownX, y: player.shownY, at: now });
  while (player.trail.length && now - player.trail[0].at > TRAIL) player.trail.shift();
}

function colourOf({ name }, lightness) {
  return `hsl(${hueOf(name)} 65% ${lightness}%)`;
}

function dot(pen, x, y, radius, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.fill();
}
