//! Prints `docs/js-settings.schema.json`.

fn main() {
    println!("{:#}", sonde_proto::js_settings::json_schema());
}
