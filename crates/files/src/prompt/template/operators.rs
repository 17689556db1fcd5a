//! Operators on values with Python's rules: arithmetic, comparison, containment, slices. Each result is paid for
//! before it is made.

use super::budget::Budget;
use super::fault::{Fault, Outcome};
use super::format;
use super::python_text::to_text;
use super::syntax::{Arithmetic, Comparison};
use super::text::{Text, Writer};
use super::value::{Seq, SeqKind, Value};

/// `left operator right`.
pub(super) fn arithmetic(operator: Arithmetic, left: &Value, right: &Value, budget: &Budget) -> Outcome<Value> {
    match (operator, left, right) {
        (Arithmetic::Concatenate, _, _) => {
            Ok(Value::Str(join([&to_text(left, budget)?, &to_text(right, budget)?], budget)?))
        }
        (Arithmetic::Add, Value::Str(left), Value::Str(right)) => add(left, right, budget).map(Value::Str),
        (Arithmetic::Add, Value::Seq(a), Value::Seq(b)) if a.kind == b.kind => {
            let items = a.items.iter().chain(&b.items);
            budget.slots(a.items.len() + b.items.len())?;
            Value::seq(budget, a.kind, items.cloned().collect())
        }
        (Arithmetic::Multiply, Value::Str(text), count) | (Arithmetic::Multiply, count, Value::Str(text)) => {
            let count = repeat_count(count)?;
            budget.bytes(text.cost().saturating_mul(count))?;
            let mut out = Writer::default();
            (0..count).for_each(|_| out.push_text(text));
            Ok(Value::Str(out.finish()))
        }
        (Arithmetic::Multiply, Value::Seq(seq), count) | (Arithmetic::Multiply, count, Value::Seq(seq)) => {
            repeat(seq, repeat_count(count)?, budget)
        }
        (Arithmetic::Remainder, Value::Str(pattern), values) => {
            format::percent(pattern, values, budget).map(Value::Str)
        }
        _ => numbers(operator, left, right),
    }
}

fn join(sides: [&Text; 2], budget: &Budget) -> Outcome<Text> {
    let mut out = Writer::default();
    for side in sides {
        budget.bytes(side.cost())?;
        out.push_text(side);
    }
    Ok(out.finish())
}

/// The texts in a row. Beside a text marked as safe, the other one is escaped.
fn add(left: &Text, right: &Text, budget: &Budget) -> Outcome<Text> {
    if !left.is_safe() && !right.is_safe() {
        return join([left, right], budget);
    }
    budget.bytes(left.cost().saturating_add(right.cost()).saturating_mul(5))?;
    let [left, right] = [left, right].map(|side| if side.is_safe() { side.clone() } else { side.escaped() });
    Ok(join([&left, &right], budget)?.marked_safe())
}

fn repeat_count(count: &Value) -> Outcome<usize> {
    let count = count.as_int().ok_or_else(|| count.refuse("cannot be a number of repetitions"))?;
    Ok(usize::try_from(count.max(0)).unwrap_or(usize::MAX))
}

fn repeat(seq: &Seq, count: usize, budget: &Budget) -> Outcome<Value> {
    let length = seq.items.len().saturating_mul(count);
    budget.slots(length)?;
    Value::seq(budget, seq.kind, seq.items.iter().cycle().take(length).cloned().collect())
}

fn numbers(operator: Arithmetic, left: &Value, right: &Value) -> Outcome<Value> {
    for side in [left, right] {
        if side.as_float().is_none() {
            return Err(side.refuse("cannot be calculated with"));
        }
    }
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        return integers(operator, a, b);
    }
    let (a, b) = (left.as_float().unwrap_or(f64::NAN), right.as_float().unwrap_or(f64::NAN));
    let divides = matches!(operator, Arithmetic::Divide | Arithmetic::FloorDivide | Arithmetic::Remainder);
    if b == 0.0 && divides {
        return Err(Fault::runtime("division by zero"));
    }
    Ok(Value::Float(match operator {
        Arithmetic::Subtract => a - b,
        Arithmetic::Multiply => a * b,
        Arithmetic::Divide => a / b,
        Arithmetic::FloorDivide => (a / b).floor(),
        Arithmetic::Remainder => a - b * (a / b).floor(),
        Arithmetic::Power => a.powf(b),
        Arithmetic::Add | Arithmetic::Concatenate => a + b,
    }))
}

fn integers(operator: Arithmetic, a: i128, b: i128) -> Outcome<Value> {
    let divides = matches!(operator, Arithmetic::Divide | Arithmetic::FloorDivide | Arithmetic::Remainder);
    if b == 0 && divides {
        return Err(Fault::runtime("division by zero"));
    }
    let result = match operator {
        Arithmetic::Add | Arithmetic::Concatenate => a.checked_add(b),
        Arithmetic::Subtract => a.checked_sub(b),
        Arithmetic::Multiply => a.checked_mul(b),
        Arithmetic::Divide => return Ok(Value::Float(a as f64 / b as f64)),
        // Rounds toward minus infinity, the remainder has the sign of the divisor.
        Arithmetic::FloorDivide => {
            a.checked_div(b).map(|quotient| if a % b != 0 && ((a < 0) != (b < 0)) { quotient - 1 } else { quotient })
        }
        Arithmetic::Remainder => {
            a.checked_rem(b).map(|rest| if rest != 0 && ((rest < 0) != (b < 0)) { rest + b } else { rest })
        }
        Arithmetic::Power if b < 0 && a == 0 => return Err(Fault::runtime("division by zero")),
        Arithmetic::Power if b < 0 => return Ok(Value::Float((a as f64).powf(b as f64))),
        Arithmetic::Power => u32::try_from(b).ok().and_then(|exponent| a.checked_pow(exponent)),
    };
    result.map(Value::Int).ok_or_else(|| Fault::runtime("a number grows past 128 bits"))
}

/// `-value`.
pub(super) fn negate(value: &Value) -> Outcome<Value> {
    match (value, value.as_int()) {
        (Value::Float(number), _) => Ok(Value::Float(-number)),
        (_, Some(number)) => {
            number.checked_neg().map(Value::Int).ok_or_else(|| Fault::runtime("a number grows past 128 bits"))
        }
        _ => Err(value.refuse("cannot be negated")),
    }
}

/// `left comparison right`.
pub(super) fn compare(comparison: Comparison, left: &Value, right: &Value, budget: &Budget) -> Outcome<bool> {
    Ok(match comparison {
        Comparison::Equal => left.equals(right, budget)?,
        Comparison::NotEqual => !left.equals(right, budget)?,
        Comparison::Less => left.compare(right, budget)?.is_lt(),
        Comparison::LessOrEqual => left.compare(right, budget)?.is_le(),
        Comparison::Greater => left.compare(right, budget)?.is_gt(),
        Comparison::GreaterOrEqual => left.compare(right, budget)?.is_ge(),
        Comparison::In => contains(right, left, budget)?,
        Comparison::NotIn => !contains(right, left, budget)?,
    })
}

/// `item in container`.
pub(super) fn contains(container: &Value, item: &Value, budget: &Budget) -> Outcome<bool> {
    match container {
        Value::Undefined(_) => Ok(false),
        Value::Str(text) => {
            let part = item.as_str().ok_or_else(|| item.refuse("cannot be part of a text"))?;
            budget.bytes(text.len())?;
            Ok(text.contains(part))
        }
        Value::Dict(dict) => {
            budget.steps(item.weight())?;
            Ok(dict.get(item).is_some())
        }
        Value::Seq(seq) => {
            for candidate in &seq.items {
                budget.steps(1)?;
                if candidate.equals(item, budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        other => Err(other.refuse("cannot contain anything")),
    }
}

/// The place that Python's index `at` means in `length` items.
pub(super) fn place(at: i128, length: usize) -> Option<usize> {
    let at = if at < 0 { at + length as i128 } else { at };
    usize::try_from(at).ok().filter(|at| *at < length)
}

/// A bound of a slice: an integer or none.
pub(super) fn slice_bound(value: &Value) -> Outcome<Option<i128>> {
    match value {
        Value::None => Ok(None),
        other => other.as_int().map(Some).ok_or_else(|| other.refuse("cannot bound a slice")),
    }
}

/// `value[start:stop:step]`.
pub(super) fn slice(value: &Value, bounds: [Option<i128>; 3], budget: &Budget) -> Outcome<Value> {
    match value {
        Value::Str(text) => {
            budget.bytes(text.cost())?;
            budget.slots(text.len() / 8)?;
            let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let mut out = Writer::default();
            if bounds[2].is_none_or(|step| step == 1) {
                let mut picked = places(bounds, starts.len() - 1)?;
                if let Some(first) = picked.next() {
                    let last = picked.last().unwrap_or(first);
                    out.push_part(text, starts[first]..starts[last + 1]);
                }
            } else {
                places(bounds, starts.len() - 1)?.for_each(|at| out.push_part(text, starts[at]..starts[at + 1]));
            }
            Ok(Value::Str(out.finish()))
        }
        Value::Seq(seq) if matches!(seq.kind, SeqKind::List | SeqKind::Tuple) => {
            let places = places(bounds, seq.items.len())?;
            Value::seq(budget, seq.kind, places.map(|at| seq.items[at].clone()).collect())
        }
        other => Err(other.refuse("cannot be sliced")),
    }
}

/// The places a slice picks out of `length` items, in order.
fn places([start, stop, step]: [Option<i128>; 3], length: usize) -> Outcome<impl Iterator<Item = usize>> {
    let (length, step) = (length as i128, step.unwrap_or(1));
    if step == 0 {
        return Err(Fault::runtime("the step of a slice cannot be 0"));
    }
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clamp = |bound: Option<i128>, default: i128| match bound {
        None => default,
        Some(bound) if bound < 0 => bound.saturating_add(length).clamp(low, high),
        Some(bound) => bound.clamp(low, high),
    };
    let (start, stop) =
        if step > 0 { (clamp(start, 0), clamp(stop, length)) } else { (clamp(start, length - 1), clamp(stop, -1)) };
    let span = if step > 0 { stop - start } else { start - stop };
    let count = if span <= 0 { 0 } else { span.unsigned_abs().div_ceil(step.unsigned_abs()) };
    Ok((0..count).map(move |at| (start + at as i128 * step) as usize))
}
