//! Canonical proto JSON of any message of the contract.
use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(crate::DESCRIPTORS).expect("the build wrote a valid descriptor set")
});

/// A message as canonical proto JSON with proto field names. `name` is the full
/// name of its type, as `sonde.visit.v1.Command`.
///
/// # Panics
/// When `name` is not a type of the contract: that is a mistake of the caller's source.
pub fn to_json(name: &str, message: &impl prost::Message) -> serde_json::Value {
    let descriptor =
        POOL.get_message_by_name(name).unwrap_or_else(|| panic!("{name} is not in the contract"));
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .expect("bytes that the same contract encoded decode");
    dynamic
        .serialize_with_options(
            serde_json::value::Serializer,
            &SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false),
        )
        .expect("a message without Any always has a JSON form")
}

/// A message of its proto JSON. Unknown fields are refused.
///
/// # Errors
/// What is wrong, in the words of the reader.
///
/// # Panics
/// When `name` is not a type of the contract: that is a mistake of the caller's source.
pub fn from_json<M: prost::Message + Default>(name: &str, value: &serde_json::Value) -> Result<M, String> {
    let descriptor =
        POOL.get_message_by_name(name).unwrap_or_else(|| panic!("{name} is not in the contract"));
    let dynamic = DynamicMessage::deserialize(descriptor, value).map_err(|e| e.to_string())?;
    M::decode(dynamic.encode_to_vec().as_slice()).map_err(|e| e.to_string())
}
