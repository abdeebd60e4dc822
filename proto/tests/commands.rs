//! The documentation's page of the commands, held against the contract.

use std::collections::BTreeSet;

use prost_reflect::DescriptorPool;

/// M20, M21: each command has a line, and each line a command.
#[test]
fn the_page_of_the_commands_has_all_of_them_and_no_others() {
    let pool =
        DescriptorPool::decode(sonde_proto::DESCRIPTORS).expect("the build wrote a valid descriptor set");
    let command = pool.get_message_by_name("sonde.visit.v1.Command").expect("the contract has commands");
    let step = command.oneofs().find(|oneof| oneof.name() == "step").expect("a command has a step");
    let steps: BTreeSet<String> = step.fields().map(|field| field.name().to_owned()).collect();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/commands.md");
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let lines = page.lines().filter(|line| line.starts_with("| `"));
    let told =
        lines.filter_map(|line| line.split('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let told: BTreeSet<String> = told.map(str::to_owned).collect();
    assert_eq!(told, steps);
}
