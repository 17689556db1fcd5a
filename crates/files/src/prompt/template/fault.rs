//! What stops a rendering: the kind, the line in the template, and one sentence. The public error is made from it.

/// Why a template could not be compiled or rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The source is not a template of this dialect.
    Syntax,
    /// The template did something that its inputs do not allow.
    Runtime,
    /// The template itself refused its input through `raise_exception`.
    Raised,
    /// A limit on steps, bytes or nesting was reached.
    Budget,
}

/// A fault with the line it happened on (0 while unknown).
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) line: u32,
    pub(super) message: String,
}

/// The result of every step of the evaluator; boxed, because the error is the rare case.
pub(super) type Outcome<T> = Result<T, Box<Fault>>;

impl Fault {
    /// A fault whose line is filled in by the node that meets it first.
    pub(super) fn new(kind: FaultKind, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { kind, line: 0, message: message.into() })
    }

    /// A runtime fault.
    pub(super) fn runtime(message: impl Into<String>) -> Box<Self> {
        Self::new(FaultKind::Runtime, message)
    }

    /// The fault with `line`, unless a deeper node already named one.
    pub(super) fn at(mut self: Box<Self>, line: u32) -> Box<Self> {
        if self.line == 0 {
            self.line = line;
        }
        self
    }
}
