//! From record messages to Rust: one `Table` constant and one `Row`
//! implementation per message that carries the `table` option.
use std::error::Error;

use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind,
    MessageDescriptor,
};

pub fn generate(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let table_option = extension(pool, "sonde.record.v1.table")?;
    let mut names = Vec::new();
    let mut code = String::new();
    for message in pool.all_messages().filter(|m| m.parent_file().package_name() == "sonde.record.v1") {
        let options = message.options();
        if !options.has_extension(&table_option) {
            continue;
        }
        let table = options.get_extension(&table_option);
        let table = table.as_message().ok_or("the table option is not a message")?;
        let constant = shout(message.name());
        code.push_str(&table_constant(pool, &constant, &message, table)?);
        code.push_str(&row_impl(&constant, &message)?);
        names.push(constant);
    }
    code.push_str(&format!(
        "/// Every table, in the order of the record files.\npub static TABLES: &[&Table] = &[{}];\n",
        names.iter().map(|n| format!("&{n}")).collect::<Vec<_>>().join(", ")
    ));
    code.push_str(&stamp_constant(pool)?);
    code.push_str(&record_row(pool)?);
    code.push_str(&ledger_row(pool)?);
    Ok(code)
}

fn extension(pool: &DescriptorPool, name: &str) -> Result<ExtensionDescriptor, Box<dyn Error>> {
    pool.get_extension_by_name(name).ok_or_else(|| format!("{name} is not defined").into())
}

fn table_constant(
    pool: &DescriptorPool,
    constant: &str,
    message: &MessageDescriptor,
    table: &DynamicMessage,
) -> Result<String, Box<dyn Error>> {
    let text = |name: &str| -> String {
        table.get_field_by_name(name).and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let flag = |name: &str| table.get_field_by_name(name).and_then(|v| v.as_bool()).unwrap_or_default();
    let lists: Vec<String> = table
        .get_field_by_name("index")
        .and_then(|v| v.as_list().map(|l| l.iter().filter_map(|v| v.as_str().map(quoted_list)).collect()))
        .unwrap_or_default();
    Ok(format!(
        "/// Table `{name}`.\npub static {constant}: Table = Table {{ name: {name:?}, doc: {doc:?}, stamped: {stamped}, \
         time_stamp: {time_stamp}, key: {key}, newest: {newest:?}, indexes: &[{indexes}], own: &[{columns}] }};\n",
        name = text("name"),
        doc = doc_of(message.parent_file().file_descriptor_proto(), message.path()),
        stamped = flag("stamped"),
        time_stamp = flag("time_stamp"),
        key = quoted_list(&text("key")),
        newest = text("newest"),
        indexes = lists.join(", "),
        columns = columns(pool, message)?,
    ))
}

fn quoted_list(commas: &str) -> String {
    let items: Vec<String> = commas.split(',').filter(|s| !s.is_empty()).map(|s| format!("{s:?}")).collect();
    format!("&[{}]", items.join(", "))
}

fn columns(pool: &DescriptorPool, message: &MessageDescriptor) -> Result<String, Box<dyn Error>> {
    let format_option = extension(pool, "sonde.record.v1.text_format")?;
    let name_option = extension(pool, "sonde.record.v1.column_name")?;
    let mut code = String::new();
    for field in message.fields() {
        let options = field.options();
        let own = |e: &ExtensionDescriptor| -> Option<String> {
            options.has_extension(e).then(|| options.get_extension(e).as_str().map(str::to_owned)).flatten()
        };
        code.push_str(&format!(
            "Column {{ name: {:?}, kind: ColumnKind::{}, nullable: {}, format: {:?}, doc: {:?} }}, ",
            own(&name_option).unwrap_or_else(|| field.name().to_owned()),
            column_kind(&field)?,
            field.supports_presence(),
            own(&format_option).unwrap_or_default(),
            doc_of(field.parent_file().file_descriptor_proto(), field.path()),
        ));
    }
    Ok(code)
}

fn column_kind(field: &FieldDescriptor) -> Result<&'static str, Box<dyn Error>> {
    if field.cardinality() == Cardinality::Repeated {
        return Err(format!("{} is repeated: a column holds one value", field.full_name()).into());
    }
    Ok(match field.kind() {
        Kind::String => "Text",
        Kind::Bool => "Bool",
        Kind::Int32 | Kind::Int64 | Kind::Uint32 => "Integer",
        Kind::Double => "Real",
        Kind::Bytes => "Bytes",
        other => return Err(format!("{}: {other:?} cannot be a column", field.full_name()).into()),
    })
}

fn row_impl(constant: &str, message: &MessageDescriptor) -> Result<String, Box<dyn Error>> {
    let mut body = String::new();
    for field in message.fields() {
        let name = field.name();
        let (take, wrap) = match column_kind(&field)? {
            "Text" => ("as_deref", "Value::Text(v)"),
            "Bool" => ("", "Value::Integer(i64::from(v))"),
            "Integer" if field.kind() == Kind::Int64 => ("", "Value::Integer(v)"),
            "Integer" => ("", "Value::Integer(i64::from(v))"),
            "Real" => ("", "Value::Real(v)"),
            _ => ("as_deref", "Value::Bytes(v)"),
        };
        let by_ref = !take.is_empty();
        if field.supports_presence() {
            let source = if by_ref { format!("self.{name}.{take}()") } else { format!("self.{name}") };
            body.push_str(&format!(
                "match {source} {{ Some(v) => put({wrap}), None => put(Value::Null) }}\n"
            ));
        } else {
            let source = if by_ref { format!("&self.{name}[..]") } else { format!("self.{name}") };
            body.push_str(&format!("{{ let v = {source}; put({wrap}); }}\n"));
        }
    }
    Ok(format!(
        "impl Row for crate::record::v1::{name} {{\nfn table(&self) -> &'static Table {{ &{constant} }}\n\
         fn values<'a>(&'a self, put: &mut dyn FnMut(Value<'a>)) {{\n{body}}}\n}}\n",
        name = message.name()
    ))
}

fn stamp_constant(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let stamp = pool.get_message_by_name("sonde.record.v1.Stamp").ok_or("Stamp is not defined")?;
    Ok(format!("pub(super) static STAMP: &[Column] = &[{}];\n", columns(pool, &stamp)?))
}

fn record_row(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    one_of(pool, "sonde.record.v1.Record", "crate::record::v1::record::Row")
}

fn ledger_row(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    one_of(pool, "sonde.storage.v1.LedgerRow", "crate::storage::v1::ledger_row::Row")
}

fn one_of(pool: &DescriptorPool, message: &str, rust: &str) -> Result<String, Box<dyn Error>> {
    let descriptor = pool.get_message_by_name(message).ok_or_else(|| format!("{message} is not defined"))?;
    let arms = |call: &str| -> String {
        descriptor
            .fields()
            .filter(|f| f.containing_oneof().is_some())
            .map(|f| format!("Self::{}(row) => {call},\n", camel(f.name())))
            .collect()
    };
    Ok(format!(
        "impl Row for {rust} {{\nfn table(&self) -> &'static Table {{ match self {{\n{}}} }}\n\
         fn values<'a>(&'a self, put: &mut dyn FnMut(Value<'a>)) {{ match self {{\n{}}} }}\n}}\n",
        arms("row.table()"),
        arms("row.values(put)")
    ))
}

fn doc_of(file: &prost_reflect::prost_types::FileDescriptorProto, path: &[i32]) -> String {
    file.source_code_info
        .iter()
        .flat_map(|info| &info.location)
        .find(|l| l.path == path)
        .map(|l| l.leading_comments().lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned())
        .unwrap_or_default()
}

fn camel(snake: &str) -> String {
    snake
        .split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map(|c| c.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
        })
        .collect()
}

fn shout(camel: &str) -> String {
    let mut out = String::new();
    for (i, c) in camel.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}
