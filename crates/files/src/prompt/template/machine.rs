//! Runs the statements of a program: scopes, loops, macros, captured output. Expressions are in `expression`.
//! Scopes live in one stack; a scope that a macro refers to stays until the rendering ends, any other is dropped when
//! it is left.

use std::ops::Range;
use std::rc::Rc;

use super::budget::{Budget, OUTPUT_BYTES_MAX};
use super::clock::Moment;
use super::fault::{Fault, FaultKind, Outcome};
use super::python_text::to_text;
use super::syntax::*;
use super::text::{Text, Writer};
use super::value::{SeqKind, Trust, Value, from_json};

/// How a statement ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

/// Names of one block; `parent` is where the search goes on.
struct Scope {
    names: Vec<(Rc<str>, Value)>,
    parent: Option<usize>,
    captured: bool,
}

/// A macro with the scope it was declared in.
#[derive(Clone, Copy)]
pub(super) struct Closure {
    pub(super) declaration: usize,
    pub(super) scope: usize,
}

/// The state behind the name `loop`.
pub(super) struct LoopState<'p> {
    pub(super) items: Rc<Vec<Value>>,
    pub(super) index: usize,
    pub(super) depth: usize,
    /// What `loop.changed` was last called with.
    pub(super) last_changed: Option<Vec<Value>>,
    /// The statement and its scope, for `loop(children)`.
    source: &'p For,
    scope: usize,
}

/// One rendering.
pub(super) struct Machine<'p> {
    pub(super) program: &'p Program,
    pub(super) budget: Budget,
    pub(super) now: Moment,
    scopes: Vec<Scope>,
    scope: usize,
    pub(super) namespaces: Vec<Vec<(Rc<str>, Value)>>,
    pub(super) closures: Vec<Closure>,
    pub(super) loops: Vec<LoopState<'p>>,
    /// The output, and above it the captures in progress.
    outputs: Vec<Writer>,
    generation: Vec<Range<usize>>,
}

impl<'p> Machine<'p> {
    /// A machine whose outermost names are the fields of `inputs`.
    pub(super) fn new(program: &'p Program, budget: Budget, now: Moment) -> Self {
        Self {
            program,
            budget,
            now,
            scopes: vec![Scope { names: Vec::new(), parent: None, captured: true }],
            scope: 0,
            namespaces: Vec::new(),
            closures: Vec::new(),
            loops: Vec::new(),
            outputs: vec![Writer::default()],
            generation: Vec::new(),
        }
    }

    /// Defines an input. Special tokens are marks; what else comes in is text.
    pub(super) fn input(&mut self, name: &str, value: &serde_json::Value) -> Outcome<()> {
        let trust = if name.ends_with("_token") { Trust::Template } else { Trust::Input };
        let value = from_json(&self.budget, value, trust)?;
        self.define(name, value)
    }

    /// Runs the program and gives its output and the spans of generation blocks in it.
    pub(super) fn run(mut self) -> Outcome<(Writer, Vec<Range<usize>>)> {
        let program = self.program;
        self.block(&program.body)?;
        Ok((self.outputs.swap_remove(0), self.generation))
    }

    pub(super) fn define(&mut self, name: &str, value: Value) -> Outcome<()> {
        let names = &mut self.scopes[self.scope].names;
        if let Some(slot) = names.iter_mut().find(|(known, _)| &**known == name) {
            slot.1 = value;
            return Ok(());
        }
        self.budget.slots(2)?;
        names.push((Rc::from(name), value));
        Ok(())
    }

    pub(super) fn lookup(&self, name: &str) -> Option<Value> {
        let mut place = Some(self.scope);
        while let Some(at) = place {
            let scope = &self.scopes[at];
            if let Some((_, value)) = scope.names.iter().find(|(known, _)| &**known == name) {
                return Some(value.clone());
            }
            place = scope.parent;
        }
        None
    }

    /// Runs `action` in a fresh scope below `parent`.
    pub(super) fn scoped<T>(&mut self, parent: usize, action: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.budget.enter()?;
        let entered_from = self.scope;
        self.scopes.push(Scope { names: Vec::new(), parent: Some(parent), captured: false });
        self.scope = self.scopes.len() - 1;
        let result = action(self);
        if self.scope == self.scopes.len() - 1 && !self.scopes[self.scope].captured {
            self.scopes.pop();
        }
        self.scope = entered_from;
        self.budget.leave();
        result
    }

    /// Runs `action` with its output caught.
    pub(super) fn captured(&mut self, action: impl FnOnce(&mut Self) -> Outcome<()>) -> Outcome<Text> {
        self.outputs.push(Writer::default());
        let result = action(self);
        let text = self.outputs.pop().unwrap_or_default();
        result.map(|()| text.finish())
    }

    fn writer(&mut self, cost: usize, length: usize) -> Outcome<&mut Writer> {
        self.budget.bytes(cost)?;
        let out = self.outputs.last_mut().expect("the outermost output stays");
        if out.len() + length > OUTPUT_BYTES_MAX {
            let message = format!("the template writes more than {OUTPUT_BYTES_MAX} bytes");
            return Err(Fault::new(FaultKind::Budget, message));
        }
        Ok(out)
    }

    pub(super) fn block(&mut self, statements: &'p [Stmt]) -> Outcome<Flow> {
        for statement in statements {
            let flow = self.statement(statement)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, statement: &'p Stmt) -> Outcome<Flow> {
        self.budget.steps(1)?;
        match statement {
            Stmt::Text(text) => self.writer(text.len(), text.len())?.push(text),
            Stmt::Emit(expression) => self.emit(expression)?,
            Stmt::For(node) => self.for_statement(node)?,
            Stmt::If { test, then, otherwise } => {
                let chosen = if self.evaluate(test)?.is_true() { then } else { otherwise };
                return self.block(chosen);
            }
            Stmt::With { assignments, body } => return self.with(assignments, body),
            Stmt::Set { target, value } => {
                let line = value.line;
                let value = self.evaluate(value)?;
                self.assign(target, value).map_err(|fault| fault.at(line))?;
            }
            Stmt::SetBlock { target, filters, body, line } => {
                let value = self.filtered_capture(filters, body, *line)?;
                self.assign(target, value).map_err(|fault| fault.at(*line))?;
            }
            Stmt::Filter { filters, body, line } => {
                let value = self.filtered_capture(filters, body, *line)?;
                self.write_value(&value).map_err(|fault| fault.at(*line))?;
            }
            Stmt::Generation(body) => return self.generation_block(body),
            Stmt::Macro(declaration) => {
                let value = self.close_over(*declaration);
                self.define(&self.program.macros[*declaration].name, value)?;
            }
            Stmt::Call { call, body, line } => {
                let caller = self.close_over(*body);
                let value = self.call(call, Some(caller)).map_err(|fault| fault.at(*line))?;
                self.write_value(&value).map_err(|fault| fault.at(*line))?;
            }
            Stmt::Do { call, line } => {
                self.call(call, None).map_err(|fault| fault.at(*line))?;
            }
            Stmt::Break => return Ok(Flow::Break),
            Stmt::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn emit(&mut self, expression: &'p Expr) -> Outcome<()> {
        let value = self.evaluate(expression)?;
        self.write_value(&value).map_err(|fault| fault.at(expression.line))
    }

    fn write_value(&mut self, value: &Value) -> Outcome<()> {
        let text = match value {
            Value::Str(text) => text,
            other => &to_text(other, &self.budget)?,
        };
        self.writer(text.cost(), text.len())?.push_text(text);
        Ok(())
    }

    fn with(&mut self, assignments: &'p [(Target, Expr)], body: &'p [Stmt]) -> Outcome<Flow> {
        let parent = self.scope;
        // The values are those of the outer names: `with a=b, b=a` swaps.
        let mut values = Vec::new();
        for (_, expression) in assignments {
            values.push(self.evaluate(expression)?);
        }
        self.scoped(parent, |this| {
            for ((target, expression), value) in assignments.iter().zip(values) {
                this.assign(target, value).map_err(|fault| fault.at(expression.line))?;
            }
            this.block(body)
        })
    }

    fn filtered_capture(&mut self, filters: &'p [Step], body: &'p [Stmt], line: u32) -> Outcome<Value> {
        let parent = self.scope;
        let text = self.captured(|this| this.scoped(parent, |this| this.block(body).map(|_| ())))?;
        let mut value = Value::Str(text);
        for step in filters {
            value = self.filter(value, step).map_err(|fault| fault.at(line))?;
        }
        Ok(value)
    }

    fn generation_block(&mut self, body: &'p [Stmt]) -> Outcome<Flow> {
        let parent = self.scope;
        let start = self.outputs[0].len();
        let flow = self.scoped(parent, |this| this.block(body))?;
        // Inside a capture the place in the final text is not known: such a block marks nothing.
        if self.outputs.len() == 1 && self.outputs[0].len() > start {
            self.generation.push(start..self.outputs[0].len());
        }
        Ok(flow)
    }

    fn close_over(&mut self, declaration: usize) -> Value {
        let mut place = Some(self.scope);
        while let Some(at) = place {
            self.scopes[at].captured = true;
            place = self.scopes[at].parent;
        }
        self.closures.push(Closure { declaration, scope: self.scope });
        Value::Macro(self.closures.len() - 1)
    }

    fn assign(&mut self, target: &'p Target, value: Value) -> Outcome<()> {
        match target {
            Target::Name(name) => self.define(name, value),
            Target::Field(name, field) => {
                let Some(Value::Namespace(place)) = self.lookup(name) else {
                    return Err(Fault::runtime(format!("cannot set a field of {name:?}: it is not a namespace")));
                };
                let fields = &mut self.namespaces[place];
                match fields.iter_mut().find(|(known, _)| **known == **field) {
                    Some(slot) => slot.1 = value,
                    None => {
                        self.budget.slots(2)?;
                        fields.push((Rc::from(&**field), value));
                    }
                }
                Ok(())
            }
            Target::Unpack(targets) => {
                let items = value.iterate(&self.budget)?;
                if items.len() != targets.len() {
                    let message = format!("cannot unpack {} values into {} names", items.len(), targets.len());
                    return Err(Fault::runtime(message));
                }
                targets.iter().zip(items).try_for_each(|(target, item)| self.assign(target, item))
            }
        }
    }

    fn for_statement(&mut self, node: &'p For) -> Outcome<()> {
        let iterable = self.evaluate(&node.iter)?;
        self.for_each(node, &iterable, self.scope, 0).map_err(|fault| fault.at(node.line))
    }

    fn for_each(&mut self, node: &'p For, iterable: &Value, scope: usize, depth: usize) -> Outcome<()> {
        let mut items = iterable.iterate(&self.budget)?;
        if let Some(filter) = &node.filter {
            let mut kept = Vec::new();
            for item in items {
                let keep = self.scoped(scope, |this| {
                    this.assign(&node.target, item.clone())?;
                    Ok(this.evaluate(filter)?.is_true())
                })?;
                if keep {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            return self.scoped(scope, |this| this.block(&node.otherwise).map(|_| ()));
        }
        let items = Rc::new(items);
        let place = self.loops.len();
        self.loops.push(LoopState {
            items: Rc::clone(&items),
            index: 0,
            depth,
            last_changed: None,
            source: node,
            scope,
        });
        for (index, item) in items.iter().enumerate() {
            self.budget.steps(1)?;
            self.loops[place].index = index;
            let flow = self.scoped(scope, |this| {
                this.define("loop", Value::Loop(place))?;
                this.assign(&node.target, item.clone())?;
                this.block(&node.body)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        // A macro may still hold the loop; its items are released all the same.
        self.loops[place].items = Rc::default();
        if place + 1 == self.loops.len() && self.closures.is_empty() {
            self.loops.pop();
        }
        Ok(())
    }

    /// `loop(children)`: the body of a recursive loop once more, as text.
    pub(super) fn recurse(&mut self, place: usize, children: &Value) -> Outcome<Value> {
        let state = &self.loops[place];
        let (node, scope, depth) = (state.source, state.scope, state.depth);
        if !node.recursive {
            return Err(Fault::runtime("only a loop marked \"recursive\" can be called"));
        }
        self.budget.enter()?;
        let text = self.captured(|this| this.for_each(node, children, scope, depth + 1));
        self.budget.leave();
        text.map(Value::Str)
    }

    /// A sequence made during this rendering.
    pub(super) fn list(&self, items: Vec<Value>) -> Outcome<Value> {
        Value::list(&self.budget, items)
    }

    /// What a lazy filter of Python would return.
    pub(super) fn iterator(&self, items: Vec<Value>) -> Outcome<Value> {
        Value::seq(&self.budget, SeqKind::Iterator, items)
    }
}
