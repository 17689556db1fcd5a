//! The pickle machine: runs the opcodes of a checkpoint's pickle over an arena of plain values. There is no opcode here
//! that could call, import or construct anything outside [`Global`]'s list; one outside this file's list is refused by
//! name. Every length is checked against the bytes left, and stack, memo and arena have limits.

use std::collections::HashMap;

use super::fault::Fault;
use super::globals::Global;
use super::opcodes::opcode_name;
use super::value::{Arena, Span, Storage, Value, View};
use crate::Dtype;
use crate::error::quoted;

/// Bytes of one pickle: forty thousand tensors need about twelve million.
pub(super) const PICKLE_BYTES_MAX: usize = 32 << 20;
const STACK_MAX: usize = 1 << 18;
const MARKS_MAX: usize = 64;
const MEMO_MAX: usize = 400_000;
const RANK_MAX: usize = 16;
const GLOBAL_BYTES_MAX: usize = 256;

/// What a pickle made, and where it ended.
#[derive(Debug)]
pub(super) struct Unpickled<'a> {
    bytes: &'a [u8],
    pub arena: Arena,
    pub root: Value,
    /// The byte after STOP.
    pub end: usize,
}

impl<'a> Unpickled<'a> {
    /// Runs the pickle at the start of `bytes`, which may go on after it.
    pub fn run(bytes: &'a [u8]) -> Result<Unpickled<'a>, Fault> {
        let bytes = &bytes[..bytes.len().min(PICKLE_BYTES_MAX)];
        let mut machine = Machine {
            bytes,
            at: 0,
            opcode_at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            arena: Arena::default(),
        };
        machine.protocol()?;
        while machine.step()? {}
        let root = machine.pop()?;
        if !machine.stack.is_empty() || !machine.marks.is_empty() {
            return Err(machine.damaged("it ends with values left over"));
        }
        Ok(Unpickled { bytes, arena: machine.arena, root, end: machine.at })
    }

    /// The letters of a text, checked to be UTF-8 when it was read.
    pub fn text(&self, span: Span) -> &'a str {
        text_of(self.bytes, span)
    }

    /// The bytes of a span.
    pub fn bytes_of(&self, span: Span) -> &'a [u8] {
        &self.bytes[span.start as usize..][..span.length as usize]
    }
}

fn text_of(bytes: &[u8], span: Span) -> &str {
    let bytes = &bytes[span.start as usize..][..span.length as usize];
    // The map can change under us, so a text that was UTF-8 once is checked again rather than trusted.
    std::str::from_utf8(bytes).unwrap_or_default()
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    opcode_at: usize,
    stack: Vec<Value>,
    /// Heights of the stack at each open MARK.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    arena: Arena,
}

impl Machine<'_> {
    fn damaged(&self, what: impl Into<String>) -> Fault {
        Fault::pickle(self.opcode_at, what)
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Fault> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(
                self.damaged(format!("{count} bytes are announced where {} are left", self.bytes.len() - self.at))
            );
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("take returns as many bytes as asked"))
    }

    fn byte(&mut self) -> Result<usize, Fault> {
        Ok(usize::from(self.array::<1>()?[0]))
    }

    fn word(&mut self) -> Result<usize, Fault> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn push(&mut self, value: Value) -> Result<(), Fault> {
        if self.stack.len() == STACK_MAX {
            return Err(self.damaged(format!("its stack grows past {STACK_MAX} values")));
        }
        self.stack.push(value);
        Ok(())
    }

    /// The top value above the last MARK.
    fn pop(&mut self) -> Result<Value, Fault> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err(self.damaged("it takes a value from an empty stack"));
        }
        Ok(self.stack.pop().expect("the stack is higher than its last mark"))
    }

    fn top(&self) -> Result<Value, Fault> {
        let above_mark = self.stack.len() > self.marks.last().copied().unwrap_or(0);
        self.stack.last().copied().filter(|_| above_mark).ok_or_else(|| self.damaged("it looks at an empty stack"))
    }

    /// The values above the last MARK, which is closed.
    fn pop_mark(&mut self) -> Result<Vec<Value>, Fault> {
        let height = self.marks.pop().ok_or_else(|| self.damaged("it closes a mark that is not open"))?;
        Ok(self.stack.split_off(height))
    }

    /// Every pickle that PyTorch writes begins with its protocol, 2 to 5.
    fn protocol(&mut self) -> Result<(), Fault> {
        match self.bytes {
            [0x80, 2..=5, ..] => {
                self.at = 2;
                Ok(())
            }
            [0x80, version, ..] => Err(self.damaged(format!("there is no pickle protocol {version}"))),
            _ => Err(self.damaged("it does not begin with a pickle protocol")),
        }
    }

    /// One opcode; false after STOP.
    fn step(&mut self) -> Result<bool, Fault> {
        self.opcode_at = self.at;
        if self.at == self.bytes.len() {
            return Err(self.damaged("it has no end"));
        }
        let opcode = self.array::<1>()?[0];
        match opcode {
            b'.' => return Ok(false),
            0x95 => self.frame()?,
            b'(' => self.mark()?,
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'K' | b'M' | b'J' | 0x8a => self.integer(opcode)?,
            b'G' => {
                let number = f64::from_be_bytes(self.array()?);
                self.push(Value::Float(number))?;
            }
            b'X' | b'T' | b'U' | 0x8c => self.text(opcode)?,
            b')' | b't' | 0x85..=0x87 => self.tuple(opcode)?,
            b']' | b'}' => self.container(opcode)?,
            b'a' | b'e' => self.append(opcode)?,
            b's' | b'u' => self.insert(opcode)?,
            b'q' | b'r' | 0x94 => self.memoize(opcode)?,
            b'h' | b'j' => self.recall(opcode)?,
            b'c' | 0x93 => self.global(opcode)?,
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            _ => return Err(Fault::Opcode { opcode: opcode_name(opcode), at: self.opcode_at }),
        }
        Ok(true)
    }

    /// Frames only tell how much to read ahead; one that passes the end is still damage.
    fn frame(&mut self) -> Result<(), Fault> {
        let announced = u64::from_le_bytes(self.array()?);
        let left = self.bytes.len() - self.at;
        if announced > left as u64 {
            return Err(self.damaged(format!("a frame of {announced} bytes where {left} are left")));
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<(), Fault> {
        if self.marks.len() == MARKS_MAX {
            return Err(self.damaged(format!("more than {MARKS_MAX} marks are open")));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn integer(&mut self, opcode: u8) -> Result<(), Fault> {
        let value = match opcode {
            b'K' => Value::Int(i64::from(self.array::<1>()?[0])),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.array()?))),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.array()?))),
            _ => {
                let length = self.byte()?;
                let start = self.at;
                let bytes = self.take(length)?;
                if length > 8 {
                    Value::Long(span(start, length))
                } else {
                    // Two's complement of the bytes given, so the last one says how to fill the rest.
                    let negative = bytes.last().is_some_and(|&last| last & 0x80 != 0);
                    let mut wide = [if negative { 0xff } else { 0 }; 8];
                    wide[..length].copy_from_slice(bytes);
                    Value::Int(i64::from_le_bytes(wide))
                }
            }
        };
        self.push(value)
    }

    /// Texts of protocols 2 to 5, and the byte strings of Python 2 where they are UTF-8.
    fn text(&mut self, opcode: u8) -> Result<(), Fault> {
        let length = if matches!(opcode, b'X' | b'T') { self.word()? } else { self.byte()? };
        let start = self.at;
        if std::str::from_utf8(self.take(length)?).is_err() {
            return Err(self.damaged("a text is not UTF-8"));
        }
        self.push(Value::Text(span(start, length)))
    }

    fn tuple(&mut self, opcode: u8) -> Result<(), Fault> {
        let items = match opcode {
            b')' => Vec::new(),
            b't' => self.pop_mark()?,
            _ => {
                let mut items = vec![Value::None; usize::from(opcode - 0x84)];
                for item in items.iter_mut().rev() {
                    *item = self.pop()?;
                }
                items
            }
        };
        let tuple = self.arena.tuple(self.opcode_at, &items)?;
        self.push(tuple)
    }

    fn container(&mut self, opcode: u8) -> Result<(), Fault> {
        let made = match opcode {
            b']' => self.arena.list(self.opcode_at)?,
            _ => self.arena.dict(self.opcode_at)?,
        };
        self.push(made)
    }

    fn append(&mut self, opcode: u8) -> Result<(), Fault> {
        let items = if opcode == b'e' { self.pop_mark()? } else { vec![self.pop()?] };
        match self.top()? {
            Value::List(list) => self.arena.append(self.opcode_at, list, &items),
            _ => Err(self.damaged("it appends to something that is no list")),
        }
    }

    fn insert(&mut self, opcode: u8) -> Result<(), Fault> {
        let items = if opcode == b'u' {
            self.pop_mark()?
        } else {
            let value = self.pop()?;
            vec![self.pop()?, value]
        };
        match self.top()? {
            Value::Dict(dict) => self.arena.insert(self.opcode_at, dict, &items),
            _ => Err(self.damaged("it sets a key of something that is no dictionary")),
        }
    }

    fn memoize(&mut self, opcode: u8) -> Result<(), Fault> {
        let index = match opcode {
            b'q' => self.byte()?,
            b'r' => self.word()?,
            _ => self.memo.len(),
        };
        let value = self.top()?;
        // A map: the index is the file's choice and must not be a length.
        self.memo.insert(index as u32, value);
        if self.memo.len() > MEMO_MAX {
            return Err(self.damaged(format!("it remembers more than {MEMO_MAX} values")));
        }
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Result<(), Fault> {
        let index = if opcode == b'h' { self.byte()? } else { self.word()? };
        match self.memo.get(&(index as u32)).copied() {
            Some(value) => self.push(value),
            None => Err(self.damaged(format!("it recalls value {index}, which it never stored"))),
        }
    }

    fn global(&mut self, opcode: u8) -> Result<(), Fault> {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?)
        } else {
            match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => (module, name),
                _ => return Err(self.damaged("a name that is no text")),
            }
        };
        let (module, name) = (text_of(self.bytes, module), text_of(self.bytes, name));
        match Global::find(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(Fault::Global { global: quoted(&format!("{module}.{name}")), at: self.opcode_at }),
        }
    }

    /// A span up to the next newline, which is skipped.
    fn line(&mut self) -> Result<Span, Fault> {
        let start = self.at;
        let rest = &self.bytes[start..];
        let length = rest.iter().take(GLOBAL_BYTES_MAX).position(|&byte| byte == b'\n');
        let length = length.filter(|&length| std::str::from_utf8(&rest[..length]).is_ok());
        let length = length.ok_or_else(|| self.damaged("a name without an end"))?;
        self.at = start + length + 1;
        Ok(span(start, length))
    }

    /// `('storage', class, key, location, count)`: the only thing PyTorch keeps outside its pickle. The location is
    /// where the values were in memory and means nothing here.
    fn persistent(&mut self) -> Result<(), Fault> {
        let Value::Tuple(tuple) = self.pop()? else {
            return Err(self.damaged("a persistent id that is no tuple"));
        };
        let (kind, class, key, count) = match *self.arena.tuple_items(tuple) {
            [Value::Text(kind), Value::Global(class), Value::Text(key), Value::Text(_), Value::Int(count)]
            | [
                Value::Text(kind),
                Value::Global(class),
                Value::Text(key),
                Value::Text(_),
                Value::Int(count),
                Value::None,
            ] => (kind, class, key, count),
            _ => return Err(self.damaged("a persistent id that describes no storage")),
        };
        let (Global::StorageType(dtype), "storage") = (class, text_of(self.bytes, kind)) else {
            return Err(self.damaged("a persistent id that is no storage of tensors"));
        };
        let Ok(count) = u64::try_from(count) else {
            return Err(self.damaged(format!("a storage of {count} values")));
        };
        let storage = self.arena.storage(self.opcode_at, Storage { key, dtype, count })?;
        self.push(storage)
    }

    fn reduce(&mut self) -> Result<(), Fault> {
        let Value::Tuple(tuple) = self.pop()? else {
            return Err(self.damaged("arguments that are no tuple"));
        };
        let Value::Global(global) = self.pop()? else {
            return Err(self.damaged("it calls something that is no function"));
        };
        // At most eight arguments are looked at, so the copy is small whatever the tuple holds.
        let arguments: Vec<Value> = self.arena.tuple_items(tuple).iter().take(9).copied().collect();
        let made = match (global, arguments.as_slice()) {
            (Global::OrderedDict, []) => self.arena.dict(self.opcode_at)?,
            (Global::OrderedDict, &[Value::List(pairs)]) => self.ordered(pairs)?,
            (Global::Size, &[Value::Tuple(sizes)]) => Value::Tuple(sizes),
            (Global::RebuildParameter, &[Value::Tensor(tensor), Value::Bool(_), hooks]) => {
                self.check_empty(hooks)?;
                Value::Tensor(tensor)
            }
            (Global::RebuildTensor, &[storage, offset, shape, strides]) => {
                self.tensor(None, [storage, offset, shape, strides])?
            }
            (Global::RebuildTensorV2, &[storage, offset, shape, strides, Value::Bool(_), hooks, ref extra @ ..]) => {
                self.check_empty(hooks)?;
                self.check_extra(extra)?;
                self.tensor(None, [storage, offset, shape, strides])?
            }
            (
                Global::RebuildTensorV3,
                &[
                    storage,
                    offset,
                    shape,
                    strides,
                    Value::Bool(_),
                    hooks,
                    Value::Global(Global::Dtype(dtype)),
                    ref extra @ ..,
                ],
            ) => {
                self.check_empty(hooks)?;
                self.check_extra(extra)?;
                self.tensor(Some(dtype), [storage, offset, shape, strides])?
            }
            _ => return Err(self.damaged(format!("it gives {global:?} arguments that no checkpoint has"))),
        };
        self.push(made)
    }

    /// Python 2 writes an ordered dictionary as one list of two-item lists.
    fn ordered(&mut self, pairs: u32) -> Result<Value, Fault> {
        let mut items = Vec::new();
        for &pair in self.arena.list_items(pairs) {
            match pair {
                Value::List(pair) if self.arena.list_items(pair).len() == 2 => {
                    items.extend(self.arena.list_items(pair))
                }
                _ => return Err(self.damaged("an ordered dictionary of something else than pairs")),
            }
        }
        let made = self.arena.dict(self.opcode_at)?;
        if let Value::Dict(dict) = made {
            self.arena.insert(self.opcode_at, dict, &items)?;
        }
        Ok(made)
    }

    /// Hooks are functions that would run on a gradient: only none of them is read.
    fn check_empty(&self, hooks: Value) -> Result<(), Fault> {
        match hooks {
            Value::None => Ok(()),
            Value::Dict(dict) if self.arena.dict_items(dict).is_empty() => Ok(()),
            _ => Err(self.damaged("a tensor with hooks or state of its own")),
        }
    }

    fn check_extra(&self, extra: &[Value]) -> Result<(), Fault> {
        match *extra {
            [] => Ok(()),
            [state] => self.check_empty(state),
            _ => Err(self.damaged("a tensor with more arguments than any version writes")),
        }
    }

    fn tensor(&mut self, dtype: Option<Dtype>, [storage, offset, shape, strides]: [Value; 4]) -> Result<Value, Fault> {
        let Value::Storage(storage) = storage else {
            return Err(self.damaged("a tensor on something that is no storage"));
        };
        let stored = self.arena.storages[storage as usize].dtype;
        let Some(dtype) = dtype.or(stored) else {
            return Err(self.damaged("a tensor whose storage says no kind of value"));
        };
        if stored.is_some_and(|stored| stored != dtype) {
            return Err(self.damaged(format!("a tensor of {dtype} on a storage of another kind")));
        }
        let Value::Int(offset) = offset else {
            return Err(self.damaged("a tensor's offset that is no number"));
        };
        let Ok(offset) = u64::try_from(offset) else {
            return Err(self.damaged(format!("a tensor at offset {offset}")));
        };
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        if shape.len() != strides.len() {
            return Err(self.damaged(format!("a tensor of {} dimensions and {} strides", shape.len(), strides.len())));
        }
        self.arena.view(self.opcode_at, View { storage, dtype, offset, shape, strides })
    }

    fn sizes(&self, sizes: Value) -> Result<Vec<usize>, Fault> {
        let items = match sizes {
            Value::Tuple(tuple) => self.arena.tuple_items(tuple),
            _ => return Err(self.damaged("a shape that is no tuple")),
        };
        if items.len() > RANK_MAX {
            return Err(self.damaged(format!("a tensor of {} dimensions, more than {RANK_MAX}", items.len())));
        }
        let size = |item: &Value| match *item {
            Value::Int(size) => {
                usize::try_from(size).map_err(|_| self.damaged(format!("a dimension or stride of {size}")))
            }
            _ => Err(self.damaged("a dimension that is no number")),
        };
        items.iter().map(size).collect()
    }

    /// State given to a finished value. A state dictionary carries the versions of its modules this way, which say
    /// nothing about the tensors; nothing else may be given state.
    fn build(&mut self) -> Result<(), Fault> {
        let state = self.pop()?;
        match (self.top()?, state) {
            (Value::Dict(_), Value::Dict(_)) => Ok(()),
            _ => Err(self.damaged("it gives state to something that is no dictionary")),
        }
    }
}

fn span(start: usize, length: usize) -> Span {
    // Both are inside a pickle of at most PICKLE_BYTES_MAX.
    Span { start: start as u32, length: length as u32 }
}
