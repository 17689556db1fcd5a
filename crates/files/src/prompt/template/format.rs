//! Python's two ways to fill a pattern: `pattern % values` and `pattern.format(values)`. Fields reach only the values
//! themselves, never their attributes. Widths are paid for; inputs keep their provenance.

use std::iter::Peekable;
use std::str::CharIndices;

use super::budget::Budget;
use super::expression::Arguments;
use super::fault::{Fault, Outcome};
use super::python_text::{float, repr, to_text};
use super::text::{Text, Writer};
use super::value::{SeqKind, Value};

/// The most digits after the point.
const PRECISION_MAX: usize = 60;

/// How one value is printed.
#[derive(Default)]
struct Field {
    fill: Option<char>,
    align: Option<char>,
    plus: bool,
    alternate: bool,
    thousands: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    kind: Option<char>,
}

type Letters<'a> = Peekable<CharIndices<'a>>;

/// `pattern % values`.
pub(super) fn percent(pattern: &Text, values: &Value, budget: &Budget) -> Outcome<Text> {
    match values {
        Value::Seq(seq) if seq.kind == SeqKind::Tuple => percent_values(pattern, &seq.items, None, budget),
        Value::Dict(_) => percent_values(pattern, std::slice::from_ref(values), Some(values), budget),
        one => percent_values(pattern, std::slice::from_ref(one), None, budget),
    }
}

/// `pattern | format(values)`.
pub(super) fn percent_arguments(pattern: &Text, arguments: &Arguments, budget: &Budget) -> Outcome<Text> {
    if arguments.named.is_empty() {
        return percent_values(pattern, &arguments.positional, None, budget);
    }
    if !arguments.positional.is_empty() {
        return Err(Fault::runtime("format takes positions or names, not both"));
    }
    let pairs = arguments.named.iter().map(|(name, value)| (Value::str(name), value.clone()));
    percent_values(pattern, &[], Some(&Value::dict(budget, pairs)?), budget)
}

fn percent_values(pattern: &Text, values: &[Value], named: Option<&Value>, budget: &Budget) -> Outcome<Text> {
    budget.bytes(pattern.cost())?;
    let mut out = Writer::default();
    let mut used = 0;
    let mut letters = pattern.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        if letter != '%' {
            out.push_part(pattern, at..at + letter.len_utf8());
            continue;
        }
        if letters.next_if(|(_, next)| *next == '%').is_some() {
            out.push("%");
            continue;
        }
        let mut by_name = None;
        if letters.next_if(|(_, next)| *next == '(').is_some() {
            let name: String = letters.by_ref().map(|(_, letter)| letter).take_while(|letter| *letter != ')').collect();
            let Some(Value::Dict(dict)) = named else {
                return Err(Fault::runtime("a format with names needs a map"));
            };
            let found = dict.get(&Value::str(&name)).cloned();
            by_name =
                Some(found.ok_or_else(|| Fault::runtime(format!("the format names {name:?}, which is not there")))?);
        }
        let field = percent_field(&mut letters)?;
        let value = match &by_name {
            Some(value) => value,
            None => {
                used += 1;
                values.get(used - 1).ok_or_else(|| Fault::runtime("not enough values for the format"))?
            }
        };
        print(value, &field, budget, &mut out)?;
    }
    if named.is_none() && used < values.len() {
        return Err(Fault::runtime("more values than the format uses"));
    }
    Ok(out.finish())
}

fn percent_field(letters: &mut Letters) -> Outcome<Field> {
    let mut field = Field { align: Some('>'), ..Field::default() };
    while let Some((_, flag)) = letters.next_if(|(_, next)| matches!(next, '-' | '0' | '+' | ' ' | '#')) {
        match flag {
            '-' => field.align = Some('<'),
            '0' => field.zero = true,
            '+' => field.plus = true,
            '#' => field.alternate = true,
            _ => {}
        }
    }
    field.width = number(letters)?.unwrap_or(0);
    if letters.next_if(|(_, next)| *next == '.').is_some() {
        field.precision = Some(number(letters)?.unwrap_or(0));
    }
    match letters.next() {
        Some((_, kind @ ('s' | 'r' | 'd' | 'i' | 'u' | 'f' | 'F' | 'e' | 'g' | 'x' | 'X' | 'o' | 'c'))) => {
            field.kind = Some(if matches!(kind, 'i' | 'u') { 'd' } else { kind });
            Ok(field)
        }
        Some((_, other)) => Err(Fault::runtime(format!("formats have no conversion {other:?}"))),
        None => Err(Fault::runtime("the format ends inside a field")),
    }
}

fn number(letters: &mut Letters) -> Outcome<Option<usize>> {
    let mut found = None;
    while let Some((_, digit)) = letters.next_if(|(_, next)| next.is_ascii_digit()) {
        let digit = digit.to_digit(10).unwrap_or(0) as usize;
        let value = found.unwrap_or(0_usize).checked_mul(10).and_then(|value| value.checked_add(digit));
        found = Some(value.ok_or_else(|| Fault::runtime("a width in the format is out of range"))?);
    }
    Ok(found)
}

/// `pattern.format(arguments)`.
pub(super) fn braces(pattern: &Text, arguments: &Arguments, budget: &Budget) -> Outcome<Text> {
    budget.bytes(pattern.cost())?;
    let mut out = Writer::default();
    let mut next_place = 0;
    let mut letters = pattern.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '{' | '}' if letters.next_if(|(_, next)| *next == letter).is_some() => {
                out.push_part(pattern, at..at + 1);
            }
            '{' => {
                let inside = letters.by_ref().take_while(|(_, letter)| *letter != '}').map(|(_, letter)| letter);
                let inside: String = inside.collect();
                if !pattern[at..].contains('}') {
                    return Err(Fault::runtime("a field of the format is not closed"));
                }
                brace_field(&inside, arguments, &mut next_place, budget, &mut out)?;
            }
            '}' => return Err(Fault::runtime("a single \"}\" in the format")),
            _ => out.push_part(pattern, at..at + letter.len_utf8()),
        }
    }
    Ok(out.finish())
}

fn brace_field(
    inside: &str,
    arguments: &Arguments,
    next_place: &mut usize,
    budget: &Budget,
    out: &mut Writer,
) -> Outcome<()> {
    let (name, layout) = inside.split_once(':').unwrap_or((inside, ""));
    let (name, conversion) = name.split_once('!').unwrap_or((name, ""));
    if name.contains(['.', '[']) {
        return Err(Fault::runtime(format!("the format field {name:?} reaches inside a value, which is unsafe")));
    }
    if layout.contains('{') {
        return Err(Fault::runtime("a format field inside a format field is not supported"));
    }
    let value = match name.parse::<usize>() {
        Ok(place) => arguments.positional.get(place),
        Err(_) if name.is_empty() => {
            *next_place += 1;
            arguments.positional.get(*next_place - 1)
        }
        Err(_) => arguments.named.iter().find(|(known, _)| &**known == name).map(|(_, value)| value),
    };
    let value = value.ok_or_else(|| Fault::runtime(format!("the format field {name:?} has no value")))?;
    let mut field = brace_layout(layout)?;
    match conversion {
        "" => {}
        "s" => field.kind = Some('s'),
        "r" => field.kind = Some('r'),
        other => return Err(Fault::runtime(format!("formats have no conversion {other:?}"))),
    }
    if field.align.is_none() {
        field.align = Some(if value.as_float().is_some() && field.kind != Some('s') { '>' } else { '<' });
    }
    print(value, &field, budget, out)
}

fn brace_layout(layout: &str) -> Outcome<Field> {
    let mut field = Field::default();
    let mut letters = layout.char_indices().peekable();
    let is_align = |letter: char| matches!(letter, '<' | '>' | '^' | '=');
    let mut first = layout.chars();
    if let (Some(fill), Some(align)) = (first.next(), first.next())
        && is_align(align)
    {
        (field.fill, field.align) = (Some(fill), Some(align));
        letters.nth(1);
    } else if let Some((_, align)) = letters.next_if(|(_, next)| is_align(*next)) {
        field.align = Some(align);
    }
    while let Some((_, flag)) = letters.next_if(|(_, next)| matches!(next, '+' | '-' | ' ' | '#')) {
        field.plus |= flag == '+';
        field.alternate |= flag == '#';
    }
    field.zero = letters.next_if(|(_, next)| *next == '0').is_some();
    field.width = number(&mut letters)?.unwrap_or(0);
    field.thousands = letters.next_if(|(_, next)| *next == ',').is_some();
    if letters.next_if(|(_, next)| *next == '.').is_some() {
        field.precision = Some(number(&mut letters)?.unwrap_or(0));
    }
    field.kind = letters.next().map(|(_, kind)| kind);
    match letters.next() {
        Some(_) => Err(Fault::runtime(format!("the format layout {layout:?} is not understood"))),
        None => Ok(field),
    }
}

fn print(value: &Value, field: &Field, budget: &Budget, out: &mut Writer) -> Outcome<()> {
    let text = body(value, field, budget)?;
    let length = text.chars().count();
    let missing = field.width.saturating_sub(length);
    budget.bytes(missing.saturating_mul(4).saturating_add(text.cost()))?;
    if field.zero && field.fill.is_none() && field.align != Some('<') {
        let sign = usize::from(text.starts_with(['-', '+']));
        out.push_part(&text, 0..sign);
        out.push(&"0".repeat(missing));
        out.push_part(&text, sign..text.len());
        return Ok(());
    }
    let before = match field.align {
        Some('>' | '=') => missing,
        Some('^') => missing / 2,
        _ => 0,
    };
    let fill = String::from(field.fill.unwrap_or(' '));
    out.push(&fill.repeat(before));
    out.push_text(&text);
    out.push(&fill.repeat(missing - before));
    Ok(())
}

fn body(value: &Value, field: &Field, budget: &Budget) -> Outcome<Text> {
    if field.precision.is_some_and(|digits| digits > PRECISION_MAX) && !matches!(field.kind, None | Some('s' | 'r')) {
        return Err(Fault::runtime(format!("more than {PRECISION_MAX} digits after the point")));
    }
    let kind = match (field.kind, value) {
        (None, Value::Float(_)) if field.precision.is_some() => Some('g'),
        (None, Value::Int(_)) => Some('d'),
        (kind, _) => kind,
    };
    let (integer, real) = (value.as_int(), value.as_float());
    let sign = |text: String| if field.plus && !text.starts_with('-') { format!("+{text}") } else { text };
    Ok(match kind {
        None | Some('s') => cut(&to_text(value, budget)?, field.precision),
        Some('r') => {
            let mut writer = Writer::default();
            budget.steps(value.weight())?;
            repr(value, budget, &mut writer)?;
            cut(&writer.finish(), field.precision)
        }
        Some('d') => {
            let whole = integer.or(real.filter(|number| number.abs() < 1e37).map(|number| number.trunc() as i128));
            let whole = whole.ok_or_else(|| value.refuse("is not an integer"))?.to_string();
            Text::template(sign(if field.thousands { thousands(&whole) } else { whole }))
        }
        Some(kind @ ('x' | 'X' | 'o')) => {
            let whole = integer.ok_or_else(|| value.refuse("is not an integer"))?;
            let digits = match kind {
                'x' => format!("{:x}", whole.unsigned_abs()),
                'X' => format!("{:X}", whole.unsigned_abs()),
                _ => format!("{:o}", whole.unsigned_abs()),
            };
            let mark = if field.alternate { format!("0{kind}") } else { String::new() };
            Text::template(format!("{}{mark}{digits}", if whole < 0 { "-" } else { "" }))
        }
        Some('f' | 'F' | '%') => {
            let number = real.ok_or_else(|| value.refuse("is not a number"))?;
            let percent = kind == Some('%');
            let scaled = if percent { number * 100.0 } else { number };
            let digits = format!("{scaled:.*}", field.precision.unwrap_or(6));
            let digits = if field.thousands { thousands(&digits) } else { digits };
            Text::template(sign(digits) + if percent { "%" } else { "" })
        }
        Some('e') => {
            let number = real.ok_or_else(|| value.refuse("is not a number"))?;
            let shown = format!("{number:.*e}", field.precision.unwrap_or(6));
            let (digits, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            let mark = if exponent < 0 { '-' } else { '+' };
            Text::template(sign(format!("{digits}e{mark}{:02}", exponent.unsigned_abs())))
        }
        Some('g') => {
            let number = real.ok_or_else(|| value.refuse("is not a number"))?;
            let digits = field.precision.unwrap_or(6).max(1);
            let rounded: f64 = format!("{number:.*e}", digits - 1).parse().unwrap_or(number);
            Text::template(sign(float(rounded).trim_end_matches(".0").to_owned()))
        }
        Some('c') => match value.as_str() {
            Some(letter) if letter.chars().count() == 1 => to_text(value, budget)?,
            _ => return Err(value.refuse("is not a letter")),
        },
        Some(other) => return Err(Fault::runtime(format!("formats have no conversion {other:?}"))),
    })
}

fn cut(text: &Text, precision: Option<usize>) -> Text {
    let end = precision.and_then(|letters| text.char_indices().nth(letters)).map_or(text.len(), |(end, _)| end);
    text.part(0..end)
}

/// A comma between each three digits of the whole part.
fn thousands(number: &str) -> String {
    let (whole, rest) = number.find('.').map_or((number, ""), |point| number.split_at(point));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut out = sign.to_owned();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}
