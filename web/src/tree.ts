// Messages as a tree: which branch is shown, and its siblings. Pure.

import type { Message } from './types';

export class Tree {
  private readonly byId = new Map<number, Message>();
  private readonly after = new Map<number | null, Message[]>();

  constructor(readonly messages: Message[]) {
    for (const message of messages) {
      this.byId.set(message.id, message);
      const list = this.after.get(message.parent);
      if (list) list.push(message);
      else this.after.set(message.parent, [message]);
    }
  }

  get(id: number | null): Message | undefined {
    return id === null ? undefined : this.byId.get(id);
  }

  /** From the first message to that one. */
  path(leaf: number | null): Message[] {
    const list: Message[] = [];
    for (let at = this.get(leaf); at && list.length <= this.messages.length; at = this.get(at.parent)) list.push(at);
    return list.reverse();
  }

  siblings(message: Message): Message[] {
    return this.after.get(message.parent) ?? [message];
  }

  children(id: number | null): Message[] {
    return this.after.get(id) ?? [];
  }

  /** The end of the branch through a message: the last of its children, and so on. */
  end(id: number): number {
    let at = id;
    for (let left = this.messages.length; left > 0; left -= 1) {
      const last = this.children(at).at(-1);
      if (!last) break;
      at = last.id;
    }
    return at;
  }
}
