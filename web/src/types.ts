// What the server says and takes: /page/facts, /v1/models and /chats.

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** A setting of sampling: its name, limits and meaning are the server's own. */
export interface Setting {
  name: string;
  meaning: string;
  range: string;
  min: number | null;
  max: number | null;
  whole: boolean;
}

export interface ModelFacts {
  id: string;
  family: string;
  context: number;
  /** What holds where neither a request nor the model's files say something. */
  defaults: Record<string, Json>;
  max_tokens: number | null;
}

export interface Facts {
  version: string;
  models: ModelFacts[];
  settings: Setting[];
  chats: { file: boolean; text_bytes: number };
}

/** A row of /v1/models: a model, or an adapter on one. */
export interface ModelRow {
  id: string;
  max_model_len?: number;
  parent?: string | null;
}

export interface Head {
  id: string;
  title: string;
  created: number;
  changed: number;
  messages: number;
}

export interface ChatSettings {
  model?: string;
  system?: string;
  sampling?: Record<string, number>;
  max_tokens?: number;
  schema?: string;
  tools?: string;
  /** The second model of a comparison, and where its branch ends. */
  beside?: { model: string; leaf: number | null };
}

export interface ToolCall {
  id: string;
  name: string;
  arguments: string;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

/** What a message has beside its text. */
export interface More {
  model?: string;
  reasoning?: string;
  calls?: ToolCall[];
  call?: { id: string; name: string };
  usage?: Usage;
  /** Seconds to the first token, and from there to the last. */
  first?: number;
  took?: number;
  finish?: string;
  /** Still being made when it was saved last. */
  open?: boolean;
  /** Why it broke off. */
  broke?: string;
  structured?: boolean;
}

export interface Message {
  id: number;
  parent: number | null;
  role: 'user' | 'assistant' | 'tool';
  content: string;
  more: More;
  created: number;
}

export interface Chat extends Head {
  settings: ChatSettings;
  leaf: number | null;
  tree: Message[];
}

export interface Found {
  chat: string;
  title: string;
  message: number | null;
  excerpt: string;
}
