//! Evaluates expressions: names, attributes and items with Python's fallbacks, calls of macros, methods and globals.

use std::rc::Rc;

use super::fault::{Fault, FaultKind, Outcome};
use super::machine::{Closure, Machine};
use super::methods;
use super::operators;
use super::python_text::to_text;
use super::syntax::*;
use super::value::{SeqKind, Value};

/// The most items that `range` may have, as in the sandbox of the reference.
const RANGE_MAX: u128 = 100_000;

/// The arguments of a call.
#[derive(Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Rc<str>, Value)>,
}

impl Arguments {
    /// The argument at `place` or called `name`.
    pub(super) fn get(&self, place: usize, name: &str) -> Option<&Value> {
        self.positional
            .get(place)
            .or_else(|| self.named.iter().find(|(known, _)| &**known == name).map(|(_, value)| value))
    }

    /// Refuses arguments beyond those called `names`.
    pub(super) fn check(&self, names: &[&str]) -> Outcome<()> {
        if self.positional.len() > names.len() {
            return Err(Fault::runtime(format!("takes at most {} arguments", names.len())));
        }
        match self.named.iter().find(|(name, _)| !names.contains(&&**name)) {
            Some((name, _)) => Err(Fault::runtime(format!("takes no argument called {name:?}"))),
            None => Ok(()),
        }
    }

    /// The argument at `place` or called `name`, which must be there.
    pub(super) fn need(&self, place: usize, name: &str) -> Outcome<&Value> {
        self.get(place, name).ok_or_else(|| Fault::runtime(format!("argument {name:?} is missing")))
    }

    /// An integer argument.
    pub(super) fn int(&self, place: usize, name: &str, default: i128) -> Outcome<i128> {
        match self.get(place, name) {
            None => Ok(default),
            Some(value) => value.as_int().ok_or_else(|| value.refuse("is not an integer")),
        }
    }

    /// A text argument.
    pub(super) fn text(&self, place: usize, name: &str) -> Outcome<&str> {
        let value = self.need(place, name)?;
        value.as_str().ok_or_else(|| value.refuse("is not a text"))
    }

    /// Whether an argument is there and true.
    pub(super) fn flag(&self, place: usize, name: &str) -> bool {
        self.get(place, name).is_some_and(Value::is_true)
    }
}

impl<'p> Machine<'p> {
    pub(super) fn evaluate(&mut self, expression: &'p Expr) -> Outcome<Value> {
        self.budget.steps(1)?;
        self.budget.enter().map_err(|fault| fault.at(expression.line))?;
        let value = self.kind(&expression.kind);
        self.budget.leave();
        value.map_err(|fault| fault.at(expression.line))
    }

    fn kind(&mut self, kind: &'p ExprKind) -> Outcome<Value> {
        match kind {
            ExprKind::Constant(constant) => self.constant(constant),
            ExprKind::Name(name) => Ok(self.name(name)),
            ExprKind::List(items) => {
                let items = self.evaluate_all(items)?;
                self.list(items)
            }
            ExprKind::Tuple(items) => {
                let items = self.evaluate_all(items)?;
                Value::seq(&self.budget, SeqKind::Tuple, items)
            }
            ExprKind::Dict(pairs) => {
                let mut made = Vec::with_capacity(pairs.len());
                for (key, value) in pairs {
                    made.push((self.evaluate(key)?, self.evaluate(value)?));
                }
                Value::dict(&self.budget, made)
            }
            ExprKind::Not(value) => Ok(Value::Bool(!self.evaluate(value)?.is_true())),
            ExprKind::Negate(value) => operators::negate(&self.evaluate(value)?),
            ExprKind::And(left, right) => {
                let left = self.evaluate(left)?;
                if left.is_true() { self.evaluate(right) } else { Ok(left) }
            }
            ExprKind::Or(left, right) => {
                let left = self.evaluate(left)?;
                if left.is_true() { Ok(left) } else { self.evaluate(right) }
            }
            ExprKind::Arithmetic(operator, left, right) => {
                let (left, right) = (self.evaluate(left)?, self.evaluate(right)?);
                operators::arithmetic(*operator, &left, &right, &self.budget)
            }
            ExprKind::Compare(first, rest) => self.comparisons(first, rest),
            ExprKind::Conditional { test, then, otherwise } => match (self.evaluate(test)?.is_true(), otherwise) {
                (true, _) => self.evaluate(then),
                (false, Some(otherwise)) => self.evaluate(otherwise),
                (false, None) => Ok(Value::undefined("the missing else of a conditional")),
            },
            ExprKind::Filter(value, step) => {
                let value = self.evaluate(value)?;
                self.filter(value, step)
            }
            ExprKind::Test(value, step) => {
                let value = self.evaluate(value)?;
                let arguments = self.arguments(&step.arguments)?;
                self.test(&step.name, &value, &arguments).map(Value::Bool)
            }
            ExprKind::Attribute(value, name) => {
                let value = self.evaluate(value)?;
                self.attribute(&value, name)
            }
            ExprKind::Item(value, key) => {
                let (value, key) = (self.evaluate(value)?, self.evaluate(key)?);
                self.item(&value, &key)
            }
            ExprKind::Slice { value, start, stop, step } => {
                let value = self.evaluate(value)?;
                let mut bounds = [None, None, None];
                for (bound, expression) in bounds.iter_mut().zip([start, stop, step]) {
                    if let Some(expression) = expression {
                        *bound = operators::slice_bound(&self.evaluate(expression)?)?;
                    }
                }
                operators::slice(&value, bounds, &self.budget)
            }
            ExprKind::Call(call) => self.call(call, None),
        }
    }

    fn evaluate_all(&mut self, expressions: &'p [Expr]) -> Outcome<Vec<Value>> {
        expressions.iter().map(|expression| self.evaluate(expression)).collect()
    }

    fn constant(&self, constant: &Constant) -> Outcome<Value> {
        Ok(match constant {
            Constant::None => Value::None,
            Constant::Bool(flag) => Value::Bool(*flag),
            Constant::Int(number) => Value::Int(*number),
            Constant::Float(number) => Value::Float(*number),
            Constant::Str(text) => {
                self.budget.bytes(text.len())?;
                Value::str(text)
            }
        })
    }

    fn name(&self, name: &str) -> Value {
        if let Some(value) = self.lookup(name) {
            return value;
        }
        const GLOBALS: [&str; 5] = ["range", "dict", "namespace", "raise_exception", "strftime_now"];
        match GLOBALS.into_iter().find(|global| *global == name) {
            Some(global) => Value::Function(global),
            None => Value::undefined(name),
        }
    }

    fn comparisons(&mut self, first: &'p Expr, rest: &'p [(Comparison, Expr)]) -> Outcome<Value> {
        let mut left = self.evaluate(first)?;
        for (comparison, right) in rest {
            let right = self.evaluate(right)?;
            if !operators::compare(*comparison, &left, &right, &self.budget)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    /// `value.name`: what the type has, then what the map holds.
    pub(super) fn attribute(&self, value: &Value, name: &str) -> Outcome<Value> {
        if value.is_undefined() {
            return Err(value.refuse(""));
        }
        if let Some(found) = self.own_attribute(value, name)? {
            return Ok(found);
        }
        if let Value::Dict(dict) = value
            && let Some(found) = dict.get(&Value::str(name))
        {
            return Ok(found.clone());
        }
        missing(value, name)
    }

    /// `value[key]`: what the container holds, then what the type has under that name.
    pub(super) fn item(&self, value: &Value, key: &Value) -> Outcome<Value> {
        match (value, key) {
            (Value::Undefined(_), _) => return Err(value.refuse("")),
            (Value::Dict(dict), _) => {
                if let Some(found) = dict.get(key) {
                    return Ok(found.clone());
                }
            }
            (Value::Seq(seq), _) if key.as_int().is_some() => {
                let place = operators::place(key.as_int().unwrap_or(0), seq.items.len());
                return Ok(place.map_or_else(|| Value::undefined("an item past the end"), |at| seq.items[at].clone()));
            }
            (Value::Str(text), _) if key.as_int().is_some() => {
                self.budget.bytes(text.len())?;
                let place = operators::place(key.as_int().unwrap_or(0), text.chars().count());
                let letter = place.and_then(|at| text.char_indices().nth(at));
                return Ok(letter.map_or_else(
                    || Value::undefined("a letter past the end"),
                    |(at, letter)| Value::Str(text.part(at..at + letter.len_utf8())),
                ));
            }
            _ => {}
        }
        match key.as_str() {
            Some(name) => match self.own_attribute(value, name)? {
                Some(found) => Ok(found),
                None => missing(value, name),
            },
            None => Ok(Value::undefined(format!("{}[{}]", value.type_name(), &*to_text(key, &self.budget)?))),
        }
    }

    /// What Python's `getattr` finds on the type itself.
    pub(super) fn own_attribute(&self, value: &Value, name: &str) -> Outcome<Option<Value>> {
        Ok(match value {
            Value::Namespace(place) => {
                self.namespaces[*place].iter().find(|(known, _)| &**known == name).map(|(_, value)| value.clone())
            }
            Value::Loop(place) => self.loop_attribute(*place, name)?,
            Value::Macro(place) if name == "name" => {
                Some(Value::str(&self.program.macros[self.closures[*place].declaration].name))
            }
            _ if methods::exists(value, name) => Some(Value::Method(Rc::new((value.clone(), Rc::from(name))))),
            _ => None,
        })
    }

    fn loop_attribute(&self, place: usize, name: &str) -> Outcome<Option<Value>> {
        let Some(state) = self.loops.get(place) else {
            return Err(Fault::runtime("the loop has ended"));
        };
        let (index, length) = (state.index as i128, state.items.len() as i128);
        Ok(Some(match name {
            "index" => Value::Int(index + 1),
            "index0" => Value::Int(index),
            "revindex" => Value::Int(length - index),
            "revindex0" => Value::Int(length - index - 1),
            "first" => Value::Bool(index == 0),
            "last" => Value::Bool(index + 1 == length),
            "length" => Value::Int(length),
            "depth" => Value::Int(state.depth as i128 + 1),
            "depth0" => Value::Int(state.depth as i128),
            "previtem" if state.index > 0 => state.items[state.index - 1].clone(),
            "nextitem" if state.index + 1 < state.items.len() => state.items[state.index + 1].clone(),
            "previtem" | "nextitem" => Value::undefined(format!("loop.{name}")),
            "cycle" | "changed" => Value::Method(Rc::new((Value::Loop(place), Rc::from(name)))),
            _ => return Ok(None),
        }))
    }

    pub(super) fn arguments(&mut self, arguments: &'p [Argument]) -> Outcome<Arguments> {
        let mut made = Arguments::default();
        for argument in arguments {
            match argument {
                Argument::Positional(value) => made.positional.push(self.evaluate(value)?),
                Argument::Named(name, value) => made.named.push((Rc::from(&**name), self.evaluate(value)?)),
                Argument::Spread(value) => made.positional.extend(self.evaluate(value)?.iterate(&self.budget)?),
                Argument::SpreadNamed(value) => match self.evaluate(value)? {
                    Value::Dict(dict) => {
                        self.budget.slots(dict.len())?;
                        for (key, value) in dict.iter() {
                            let key = key.as_str().ok_or_else(|| key.refuse("is not the name of an argument"))?;
                            made.named.push((Rc::from(key), value.clone()));
                        }
                    }
                    other => return Err(other.refuse("cannot be spread into arguments")),
                },
            }
        }
        Ok(made)
    }

    pub(super) fn call(&mut self, call: &'p Call, caller: Option<Value>) -> Outcome<Value> {
        let callee = self.evaluate(&call.callee)?;
        let arguments = self.arguments(&call.arguments)?;
        match callee {
            Value::Macro(place) => self.call_macro(place, arguments, caller),
            Value::Loop(place) => {
                let children = arguments.need(0, "children")?;
                self.recurse(place, children)
            }
            Value::Method(method) => self.call_method(&method.0, &method.1, &arguments),
            Value::Function(name) => self.call_global(name, &arguments),
            other => Err(other.refuse("cannot be called")),
        }
        .map_err(|fault| fault.at(call.callee.line))
    }

    fn call_macro(&mut self, place: usize, arguments: Arguments, caller: Option<Value>) -> Outcome<Value> {
        let program = self.program;
        let Closure { declaration, scope } = self.closures[place];
        let declaration = &program.macros[declaration];
        let extra = arguments.positional.len().saturating_sub(declaration.parameters.len());
        if extra > 0 {
            let message =
                format!("macro {:?} takes at most {} arguments", declaration.name, declaration.parameters.len());
            return Err(Fault::runtime(message));
        }
        let known = |name: &str| declaration.parameters.iter().any(|parameter| **parameter == *name);
        if let Some((name, _)) = arguments.named.iter().find(|(name, _)| !known(name) && &**name != "caller") {
            return Err(Fault::runtime(format!("macro {:?} takes no argument {name:?}", declaration.name)));
        }
        let first_default = declaration.parameters.len() - declaration.defaults.len();
        let text = self.captured(|this| {
            this.scoped(scope, |this| {
                if let Some(caller) = caller {
                    this.define("caller", caller)?;
                }
                for (at, parameter) in declaration.parameters.iter().enumerate() {
                    let value = match arguments.get(at, parameter) {
                        Some(value) => value.clone(),
                        None if at >= first_default => this.evaluate(&declaration.defaults[at - first_default])?,
                        None => Value::undefined(parameter),
                    };
                    this.define(parameter, value)?;
                }
                this.block(&declaration.body).map(|_| ())
            })
        })?;
        Ok(Value::Str(text))
    }

    fn call_global(&mut self, name: &str, arguments: &Arguments) -> Outcome<Value> {
        match name {
            "range" => self.range(arguments),
            "dict" | "namespace" => {
                let mut pairs: Vec<(Value, Value)> = match arguments.positional.first() {
                    Some(Value::Dict(dict)) => dict.iter().cloned().collect(),
                    Some(other) => return Err(other.refuse("is not a map")),
                    None => Vec::new(),
                };
                pairs.extend(arguments.named.iter().map(|(name, value)| (Value::str(name), value.clone())));
                if name == "dict" {
                    return Value::dict(&self.budget, pairs);
                }
                self.budget.slots(pairs.len() * 2 + 2)?;
                let fields = pairs.into_iter().filter_map(|(key, value)| match key {
                    Value::Str(name) => Some((name.shared(), value)),
                    _ => None,
                });
                let fields = fields.collect();
                self.namespaces.push(fields);
                Ok(Value::Namespace(self.namespaces.len() - 1))
            }
            "raise_exception" => {
                let message = to_text(arguments.need(0, "message")?, &self.budget)?;
                // The message is the template's own and reaches terminals and logs: one line, of bounded length.
                let message: String = message.chars().filter(|letter| !letter.is_control()).take(400).collect();
                Err(Fault::new(FaultKind::Raised, message))
            }
            "strftime_now" => Ok(Value::str(self.now.format(arguments.text(0, "format")?, &self.budget)?)),
            _ => Err(Fault::runtime(format!("{name:?} is undefined"))),
        }
    }

    fn range(&self, arguments: &Arguments) -> Outcome<Value> {
        arguments.check(&["start", "stop", "step"])?;
        let (start, stop) = match arguments.positional.len() {
            1 => (0, arguments.int(0, "stop", 0)?),
            _ => (arguments.int(0, "start", 0)?, arguments.int(1, "stop", 0)?),
        };
        let step = arguments.int(2, "step", 1)?;
        if step == 0 {
            return Err(Fault::runtime("the step of a range cannot be 0"));
        }
        let span = if step > 0 { stop.saturating_sub(start) } else { start.saturating_sub(stop) };
        let length = if span <= 0 { 0 } else { span.unsigned_abs().div_ceil(step.unsigned_abs()) };
        if length > RANGE_MAX {
            return Err(Fault::new(FaultKind::Budget, format!("a range of more than {RANGE_MAX} items")));
        }
        self.list((0..length).map(|at| Value::Int(start + at as i128 * step)).collect())
    }
}

/// What stands for an attribute that is not there. Python's internals are refused by name rather than looked for.
fn missing(value: &Value, name: &str) -> Outcome<Value> {
    if name.starts_with("__") {
        return Err(Fault::runtime(format!("access to {name:?} of a value of type {} is unsafe", value.type_name())));
    }
    Ok(Value::undefined(format!("{}.{name}", value.type_name())))
}
