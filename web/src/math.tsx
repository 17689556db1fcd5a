// Formulas as MathML, loaded when the first one is shown. What is no formula stays the text that it is.

import { useEffect, useRef, useState } from 'preact/hooks';

type Temml = (typeof import('temml'))['default'];
let temml: Temml | null = null;
let loading: Promise<Temml> | null = null;

const LONGEST = 8_000;

export function Formula({ text, display }: { text: string; display: boolean }) {
  const place = useRef<HTMLElement>(null);
  const [ready, setReady] = useState(temml !== null);
  const [wrong, setWrong] = useState(text.length > LONGEST);
  useEffect(() => {
    if (ready) return;
    loading ??= import('temml').then((module) => module.default);
    loading.then(
      (loaded) => {
        temml = loaded;
        setReady(true);
      },
      () => (loading = null),
    );
  }, []);
  useEffect(() => {
    if (!ready || !temml || !place.current || wrong) return;
    try {
      // Nodes are built one by one; commands that could name an address, a class or a style are not trusted.
      temml.render(text, place.current, {
        displayMode: display,
        throwOnError: true,
        trust: false,
        strict: false,
        maxSize: [20, 200],
        maxExpand: 200,
      });
    } catch {
      setWrong(true);
    }
  }, [ready, text, display, wrong]);
  if (wrong) return <code class="formula-source">{text}</code>;
  if (!ready) return <code class="formula-source">{text}</code>;
  const name = display ? 'formula display' : 'formula';
  return <span class={name} ref={place as never} key="formula" />;
}
