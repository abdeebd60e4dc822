//! `sonde schema`: the tables, from the contract itself.

use std::io::Write as _;

use sonde_proto::schema::render;

use crate::args::{SchemaArgs, SchemaFormat};
use crate::exit::CliError;

/// Prints them.
pub fn run(args: &SchemaArgs) -> Result<u8, CliError> {
    let text = match args.format {
        SchemaFormat::Markdown => render::markdown(),
        SchemaFormat::Sql => render::sql(),
        SchemaFormat::Arrow => render::arrow(),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader that has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(CliError::Service(format!("the schema could not be printed: {error}"))),
        Ok(()) => Ok(0),
    }
}
