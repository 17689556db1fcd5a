// One answer as it is made: /v1/chat/completions with usage, read event by event.

import { Failed, ask } from './api';
import type { Json, ToolCall, Usage } from './types';

export interface Piece {
  content?: string;
  reasoning?: string;
  /** Parts of calls; arguments come in pieces. */
  calls?: { index: number; id?: string; name?: string; arguments?: string }[];
  finish?: string;
  usage?: Usage;
}

export interface Asked {
  model: string;
  messages: Json[];
  [field: string]: Json;
}

/** Asks, and hands over each piece. Throws `Failed` when there is no answer or it breaks off. */
export async function stream(body: Asked, signal: AbortSignal, take: (piece: Piece) => void): Promise<void> {
  const whole = { ...body, stream: true, stream_options: { include_usage: true } };
  const answer = await ask('/v1/chat/completions', whole, { signal });
  if (!answer.body) throw new Failed('The answer has no body', answer.status);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let ended = false;
  for (;;) {
    let part: ReadableStreamReadResult<string>;
    try {
      part = await reader.read();
    } catch (error) {
      if (signal.aborted) throw error;
      throw new Failed('The connection broke off', 0);
    }
    if (part.done) break;
    const lines = (rest + part.value).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (!line.startsWith('data:')) continue;
      const data = line.slice(5).trim();
      if (data === '[DONE]') ended = true;
      else take(read(data));
    }
  }
  if (!ended) throw new Failed('The connection broke off', 0);
}

function read(data: string): Piece {
  let event;
  try {
    event = JSON.parse(data);
  } catch {
    throw new Failed('The server sent what is no JSON', 502);
  }
  if (event.error) {
    const status = event.error.code === 'shutting_down' ? 503 : 500;
    throw new Failed(String(event.error.message ?? event.error), status);
  }
  const piece: Piece = {};
  if (event.usage) piece.usage = event.usage;
  const choice = event.choices?.[0];
  if (!choice) return piece;
  const delta = choice.delta ?? {};
  if (typeof delta.content === 'string') piece.content = delta.content;
  const reasoning = delta.reasoning_content ?? delta.reasoning;
  if (typeof reasoning === 'string') piece.reasoning = reasoning;
  if (Array.isArray(delta.tool_calls)) {
    piece.calls = delta.tool_calls.map((call: any, at: number) => ({
      index: call.index ?? at,
      id: call.id,
      name: call.function?.name,
      arguments: call.function?.arguments,
    }));
  }
  if (choice.finish_reason) piece.finish = choice.finish_reason;
  return piece;
}

/** Puts the parts of calls together. */
export function gather(calls: ToolCall[], parts: NonNullable<Piece['calls']>): ToolCall[] {
  const list = calls.slice();
  for (const part of parts) {
    const old = list[part.index] ?? { id: `call_${part.index}`, name: '', arguments: '' };
    list[part.index] = {
      id: part.id ?? old.id,
      name: old.name + (part.name ?? ''),
      arguments: old.arguments + (part.arguments ?? ''),
    };
  }
  return list;
}
