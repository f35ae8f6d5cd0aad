// Declarations of client.js, for TypeScript.

export interface Options<Name extends string = string> {
  /** The room to join, or to create. */
  room: string;
  username: string;
  /**
   * The variables and their first values. The values of an existing room take precedence; its names must be
   * the same.
   */
  variables: Record<Name, string>;
}

export interface Closed {
  /** The close code; 1006 if the connection broke. */
  code: number;
  /** A sentence for the player; may be empty. */
  reason: string;
  /** Whether the client comes back by itself. */
  reconnecting: boolean;
  /** In how many milliseconds; 0 if it does not. */
  delay: number;
}

/** The arguments of the listeners, by event. */
export interface Events<Name extends string = string> {
  /** Another member set a variable, or the room's value differs from the shown one. */
  set: (name: Name, value: string) => void;
  /** The client is in the room, and `vars` has its values. */
  open: () => void;
  close: (closed: Closed) => void;
}

export interface Cloud<Name extends string = string> {
  /**
   * The values. Assigning to one sets it for everyone. Until 'open' they are the declared values, or, after a
   * break, the last known ones.
   */
  vars: Record<Name, string>;
  /** Whether the client is in the room, and `vars` has its values. */
  readonly connected: boolean;
  /**
   * Sets a variable to the result of `change` on its value, atomically: if another member sets it in between,
   * `change` is called again with the new value.
   *
   * @returns The resulting value. Fails if the connection breaks before the server has answered, or if
   *   others keep setting the variable.
   */
  update(name: Name, change: (old: string) => unknown): Promise<string>;
  on<Event extends keyof Events>(event: Event, listener: Events<Name>[Event]): this;
  off<Event extends keyof Events>(event: Event, listener: Events<Name>[Event]): this;
  /** Leaves the room and stays away. */
  close(): void;
}

/**
 * Joins a room and stays in it: reconnects if the protocol's status codes say so.
 *
 * The names of the variables are those of `variables`; in a room that grows, give `string`:
 * `connect<string>(...)`.
 *
 * @param url The address of a mount, relative to the page or absolute, with `http`, `https`, `ws` or `wss`.
 */
export function connect<Name extends string>(url: string | URL, options: Options<Name>): Cloud<Name>;
