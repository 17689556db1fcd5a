//! The tests after `is`, as the reference engine defines them.

use std::rc::Rc;

use super::expression::Arguments;
use super::fault::{Fault, Outcome};
use super::machine::Machine;
use super::operators;
use super::python_text::to_text;
use super::syntax::Comparison;
use super::value::Value;

impl Machine<'_> {
    /// `value is name(arguments)`.
    pub(super) fn test(&self, name: &str, value: &Value, arguments: &Arguments) -> Outcome<bool> {
        self.budget.steps(1)?;
        let comparison = match name {
            "eq" | "equalto" | "==" => Some(Comparison::Equal),
            "ne" | "!=" => Some(Comparison::NotEqual),
            "lt" | "lessthan" | "<" => Some(Comparison::Less),
            "le" | "<=" => Some(Comparison::LessOrEqual),
            "gt" | "greaterthan" | ">" => Some(Comparison::Greater),
            "ge" | ">=" => Some(Comparison::GreaterOrEqual),
            "in" => Some(Comparison::In),
            _ => None,
        };
        if let Some(comparison) = comparison {
            return operators::compare(comparison, value, arguments.need(0, "other")?, &self.budget);
        }
        Ok(match name {
            "defined" => !value.is_undefined(),
            "undefined" => value.is_undefined(),
            "none" => matches!(value, Value::None),
            "boolean" => matches!(value, Value::Bool(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "string" => matches!(value, Value::Str(_)),
            "mapping" => matches!(value, Value::Dict(_)),
            "number" => value.as_float().is_some(),
            "integer" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_)),
            "sequence" => match value {
                Value::Seq(seq) => seq.kind != super::value::SeqKind::Iterator,
                other => matches!(other, Value::Str(_) | Value::Dict(_) | Value::Undefined(_)),
            },
            "iterable" => {
                matches!(value, Value::Str(_) | Value::Seq(_) | Value::Dict(_) | Value::Undefined(_) | Value::Loop(_))
            }
            "callable" => {
                matches!(value, Value::Macro(_) | Value::Function(_) | Value::Method(_) | Value::Undefined(_))
            }
            "odd" | "even" => {
                let number = value.as_int().ok_or_else(|| value.refuse("is neither odd nor even"))?;
                (number.rem_euclid(2) == 1) == (name == "odd")
            }
            "divisibleby" => {
                let number = value.as_int().ok_or_else(|| value.refuse("is not an integer"))?;
                match arguments.int(0, "num", 0)? {
                    0 => return Err(Fault::runtime("division by zero")),
                    divisor => number.checked_rem(divisor).is_none_or(|rest| rest == 0),
                }
            }
            "lower" | "upper" => {
                let text = to_text(value, &self.budget)?;
                let (lower, upper) = (text.chars().any(char::is_lowercase), text.chars().any(char::is_uppercase));
                if name == "lower" { lower && !upper } else { upper && !lower }
            }
            "sameas" => same(value, arguments.need(0, "other")?),
            "escaped" => false,
            _ => return Err(Fault::runtime(format!("there is no test called {name:?}"))),
        })
    }
}

/// Python's `is`, for values where it can be told.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Str(a), Value::Str(b)) => **a == **b,
        (Value::Seq(a), Value::Seq(b)) => Rc::ptr_eq(a, b),
        (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
        (Value::Namespace(a), Value::Namespace(b)) => a == b,
        _ => false,
    }
}
