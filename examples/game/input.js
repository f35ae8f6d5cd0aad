// Where the person at this tab wants to go: keys held down, or a place pointed at.

const KEYS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
  KeyA: [-1, 0],
  KeyD: [1, 0],
  KeyW: [0, -1],
  KeyS: [0, 1],
};

export class Input {
  #held = new Set();
  #goal = null;

  /** `toField` gives the place in the field that a pointer event means. */
  constructor(canvas, toField) {
    addEventListener('keydown', (event) => {
      const elsewhere =
        event.target.closest('dialog') || event.ctrlKey || event.metaKey || event.altKey;
      if (!KEYS[event.code] || elsewhere) return;
      event.preventDefault();
      this.#held.add(event.code);
      this.#goal = null;
    });
    addEventListener('keyup', ({ code }) => this.#held.delete(code));
    // Keys that are let go elsewhere are not told.
    addEventListener('blur', () => this.#held.clear());
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#goal = toField(event);
    });
    canvas.addEventListener('pointermove', (event) => {
      if (event.buttons) this.#goal = toField(event);
    });
  }

  /** Moves a thing by at most this distance. */
  move(thing, distance) {
    let [x, y] = [0, 0];
    for (const code of this.#held) {
      x += KEYS[code][0];
      y += KEYS[code][1];
    }
    if (this.#goal) {
      x = this.#goal.x - thing.x;
      y = this.#goal.y - thing.y;
      if (Math.hypot(x, y) <= distance) {
        Object.assign(thing, this.#goal);
        this.#goal = null;
        return;
      }
    }
    const length = Math.hypot(x, y) || 1;
    thing.x += (x / length) * distance;
    thing.y += (y / length) * distance;
  }

  stop() {
    this.#goal = null;
    this.#held.clear();
  }
}
