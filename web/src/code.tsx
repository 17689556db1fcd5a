// Colors of code: a few languages, loaded when the first block of code is shown. Elements are made one by one; no text
// ever becomes markup.

import { h, type ComponentChildren, type VNode } from 'preact';
import { useEffect, useState } from 'preact/hooks';

type Colors = typeof import('./highlight');
let colors: Colors | null = null;
let loading: Promise<Colors> | null = null;

/** Longer code stays plain, so that a stream does not stall. */
const LONGEST = 60_000;

export function Code({ text, language }: { text: string; language: string }) {
  const [ready, setReady] = useState(colors !== null);
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (ready) return;
    loading ??= import('./highlight');
    loading.then(
      (loaded) => {
        colors = loaded;
        setReady(true);
      },
      // Without colors the code is as good.
      () => (loading = null),
    );
  }, []);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      copyBySelection(text);
    }
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  const shown: ComponentChildren = colors && text.length <= LONGEST ? colors.paint(text, language) : text;
  return (
    <div class="code">
      <div class="code-head">
        <span>{language || 'text'}</span>
        <button type="button" class="quiet small" onClick={copy} aria-label="Copy this code">
          {copied ? 'Copied' : 'Copy'}
        </button>
      </div>
      <pre tabIndex={0}>
        <code>{shown}</code>
      </pre>
    </div>
  );
}

/** Without a secure origin there is no clipboard of the browser's. */
function copyBySelection(text: string): void {
  const area = document.createElement('textarea');
  area.value = text;
  area.className = 'unseen';
  document.body.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
}

export async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyBySelection(text);
  }
}

export const span = (name: string, children: ComponentChildren): VNode => h('span', { class: name }, children) as VNode;
