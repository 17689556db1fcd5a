//! The syntax tree of a template: owned, `Send + Sync`, every node with its line. Made by `parse`, run by `machine`.

/// A statement or a piece of output.
#[derive(Debug)]
pub(super) enum Stmt {
    Text(Box<str>),
    Emit(Expr),
    For(Box<For>),
    If {
        test: Expr,
        then: Vec<Stmt>,
        otherwise: Vec<Stmt>,
    },
    With {
        assignments: Vec<(Target, Expr)>,
        body: Vec<Stmt>,
    },
    Set {
        target: Target,
        value: Expr,
    },
    SetBlock {
        target: Target,
        filters: Vec<Step>,
        body: Vec<Stmt>,
        line: u32,
    },
    Filter {
        filters: Vec<Step>,
        body: Vec<Stmt>,
        line: u32,
    },
    /// What the assistant wrote: its place in the output is the training mask.
    Generation(Vec<Stmt>),
    Macro(usize),
    /// `{% call %}`: the macro is the body, the call receives it as `caller`.
    Call {
        call: Call,
        body: usize,
        line: u32,
    },
    Do {
        call: Call,
        line: u32,
    },
    Break,
    Continue,
}

/// `{% for %}`.
#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) iter: Expr,
    pub(super) filter: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Vec<Stmt>,
    pub(super) otherwise: Vec<Stmt>,
    pub(super) line: u32,
}

/// `{% macro %}` or the body of `{% call %}`; the last `defaults.len()` parameters have a default.
#[derive(Debug)]
pub(super) struct Macro {
    pub(super) name: Box<str>,
    pub(super) parameters: Vec<Box<str>>,
    pub(super) defaults: Vec<Expr>,
    pub(super) body: Vec<Stmt>,
}

/// What an assignment writes to.
#[derive(Debug)]
pub(super) enum Target {
    Name(Box<str>),
    /// `namespace.field`.
    Field(Box<str>, Box<str>),
    Unpack(Vec<Target>),
}

/// An expression and its line.
#[derive(Debug)]
pub(super) struct Expr {
    pub(super) line: u32,
    pub(super) kind: Box<ExprKind>,
}

/// The kinds of expression.
#[derive(Debug)]
pub(super) enum ExprKind {
    Constant(Constant),
    Name(Box<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Not(Expr),
    Negate(Expr),
    And(Expr, Expr),
    Or(Expr, Expr),
    Arithmetic(Arithmetic, Expr, Expr),
    /// One or several comparisons in a row, each between neighbours.
    Compare(Expr, Vec<(Comparison, Expr)>),
    Conditional {
        test: Expr,
        then: Expr,
        otherwise: Option<Expr>,
    },
    Filter(Expr, Step),
    Test(Expr, Step),
    Attribute(Expr, Box<str>),
    Item(Expr, Expr),
    Slice {
        value: Expr,
        start: Option<Expr>,
        stop: Option<Expr>,
        step: Option<Expr>,
    },
    Call(Call),
}

/// A literal.
#[derive(Debug)]
pub(super) enum Constant {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Box<str>),
}

/// A call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) callee: Expr,
    pub(super) arguments: Vec<Argument>,
}

/// A filter or a test: its name and what stands in its parentheses.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: Box<str>,
    pub(super) arguments: Vec<Argument>,
}

/// One argument of a call.
#[derive(Debug)]
pub(super) enum Argument {
    Positional(Expr),
    Named(Box<str>, Expr),
    Spread(Expr),
    SpreadNamed(Expr),
}

/// Operators that compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
    Concatenate,
}

/// Operators that compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

/// A compiled template.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) body: Vec<Stmt>,
    pub(super) macros: Vec<Macro>,
    pub(super) has_generation: bool,
}
