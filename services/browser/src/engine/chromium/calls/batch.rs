//! Batches of records as the page-world hooks encode them: the format is told in the extension's `batch.ts`.

/// The words of the operations that are rows, by number.
const OPERATIONS: [&str; 7] =
    ["call", "get", "set", "get(failed)", "set(failed)", "get(function)", "set(prevented)"];
/// A target that is not there.
pub const MISSING: u32 = 10;
/// A property whose uses cannot be seen; the value says why.
pub const NOT_INSTRUMENTED: u32 = 11;
/// So many uses of the symbol, as the cut units say, beyond the limit.
pub const LIMITED: u32 = 12;
/// The worker's stack settings kept the call site from being read.
pub const TAMPERED: u32 = 1;
/// The whole stack is to be stored.
pub const CALL_STACK: u32 = 2;
/// Frames of a whole stack.
pub const STACK_FRAMES: usize = 500;
/// UTF-16 units of one value or argument list.
pub const VALUE_CAP: i64 = 2 * 1024 * 1024;

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub symbol: String,
    pub operation: u32,
    pub flags: u32,
    /// Microseconds since the epoch.
    pub at_us: i64,
    pub stack: Option<String>,
    pub value: Option<String>,
    pub args: Option<String>,
    /// UTF-16 units cut off value and arguments.
    pub cut: i64,
}

impl Call {
    /// The word of its operation; `None` for a record about the recording.
    pub fn word(&self) -> Option<&'static str> {
        OPERATIONS.get(self.operation as usize).copied()
    }
}

/// Reads a batch. The error says what is wrong with it: a bug, as no page can reach the channel.
pub fn decode(text: &str) -> Result<Vec<Call>, String> {
    let mut lines = text.splitn(3, '\n');
    let (head, lengths) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut rest = lines.next().ok_or("it ends in its head")?;
    let head = numbers(head)?;
    let [base, count, strings, ..] = head[..] else { return Err("its head is too short".to_owned()) };
    let mut rows = Vec::new();
    for _ in 0..count as usize {
        let (row, after) = rest.split_once('\n').ok_or("it ends among its records")?;
        rows.push(numbers(row)?);
        rest = after;
    }
    let lengths = if strings == 0.0 { Vec::new() } else { numbers(lengths)? };
    let mut table = Vec::with_capacity(lengths.len());
    for length in lengths {
        let (string, after) = rest.split_at(units(rest, length as usize)?);
        table.push(string);
        rest = after;
    }
    if !rest.is_empty() {
        return Err(format!("it goes on for {} bytes after its strings", rest.len()));
    }
    rows.into_iter().map(|row| call(base, &row, &table)).collect()
}

fn numbers(line: &str) -> Result<Vec<f64>, String> {
    line.split(',').map(|n| n.parse().map_err(|_| format!("{n:?} is no number"))).collect()
}

/// Bytes of the first so many UTF-16 units. A lone surrogate came through JSON as one replacement character.
fn units(text: &str, units: usize) -> Result<usize, String> {
    let mut left = units;
    for (at, c) in text.char_indices() {
        if left == 0 {
            return Ok(at);
        }
        left = left.checked_sub(c.len_utf16()).ok_or("a string ends within a character")?;
    }
    if left == 0 { Ok(text.len()) } else { Err("it ends among its strings".to_owned()) }
}

fn call(base: f64, row: &[f64], table: &[&str]) -> Result<Call, String> {
    let &[after, symbol, operation, flags, stack, value, args, cut] = row else {
        return Err(format!("a record has {} numbers", row.len()));
    };
    let string = |place: f64| -> Result<Option<String>, String> {
        if place < 0.0 {
            return Ok(None);
        }
        let text = table.get(place as usize).ok_or("a record names a string that is not there")?;
        Ok(Some((*text).to_owned()))
    };
    Ok(Call {
        symbol: string(symbol)?.ok_or("a record has no symbol")?,
        operation: operation as u32,
        flags: flags as u32,
        at_us: (base + after).round() as i64,
        stack: string(stack)?,
        value: string(value)?,
        args: string(args)?,
        cut: cut as i64,
    })
}
