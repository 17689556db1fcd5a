// Small drawings, each with a name for those who do not see it in the button around it.

const paths: Record<string, string> = {
  plus: 'M12 5v14M5 12h14',
  search: 'M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM20 20l-4-4',
  send: 'M12 19V5M6 11l6-6 6 6',
  stop: 'M7 7h10v10H7z',
  again: 'M4 12a8 8 0 0 1 14-5.300L20 9M20 4v5h-5M20 12a8 8 0 0 1-14 5.300L4 15M4 20v-5h5',
  edit: 'M4 20h4L19 9l-4-4L4 16zM13 7l4 4',
  copy: 'M9 9h10v10H9zM5 15V5h10',
  left: 'M14 6l-6 6 6 6',
  right: 'M10 6l6 6-6 6',
  gear: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4',
  columns: 'M4 5h16v14H4zM12 5v14',
  menu: 'M4 7h16M4 12h16M4 17h16',
  close: 'M6 6l12 12M18 6L6 18',
  bin: 'M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12',
  save: 'M12 4v11M7 10l5 5 5-5M5 19h14',
  open: 'M12 15V4M7 9l5-5 5 5M5 19h14',
  help: 'M9 9a3 3 0 1 1 4.500 2.600c-1 .6-1.500 1.200-1.500 2.400M12 17.500v.1',
  down: 'M12 5v14M6 13l6 6 6-6',
};

export function Icon({ name }: { name: string }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={paths[name]} />
    </svg>
  );
}

/** The mark of the page. */
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" class="mark-sky" />
      <circle cx="21.5" cy="10.5" r="3.5" class="mark-sun" />
      <path class="mark-far" d="M0 22c5-6 10-6.5 15-2.500 5 4 10 3.500 17-1.500v6a8 8 0 0 1-8 8H8a8 8 0 0 1-8-8z" />
      <path class="mark-near" d="M0 26c6-4 11-3.500 16-1 6 3 11 2 16-1a8 8 0 0 1-8 8H8a8 8 0 0 1-8-6z" />
    </svg>
  );
}
