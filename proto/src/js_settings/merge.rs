//! Items that name the same object become one.

use super::{LogSettings, Target, item::Expanded, settings::SETTINGS};
use crate::FieldErrors;

/// Lists are joined, each name once; everything else must be equal.
pub fn merge(expanded: Vec<Expanded>, errors: &mut FieldErrors) -> Vec<Target> {
    let mut merged: Vec<Expanded> = Vec::new();
    for next in expanded {
        match merged.iter_mut().find(|known| known.target.path == next.target.path) {
            Some(known) => join(known, next, errors),
            None => merged.push(next),
        }
    }
    merged.into_iter().map(|expanded| expanded.target).collect()
}

fn join(known: &mut Expanded, next: Expanded, errors: &mut FieldErrors) {
    let (from, before) = (next.from, known.from.clone());
    let settings = format!("{from}.logSettings");
    let object = known.target.object.clone();
    let mut conflict = |path: String, message: String| errors.push(path, format!("{message} in {before}"));
    if known.target.instrumented_name != next.target.instrumented_name {
        conflict(
            from.clone(),
            format!(
                "names {} {:?}, and it is {:?}",
                next.target.object, next.target.instrumented_name, known.target.instrumented_name
            ),
        );
    }
    let (ours, theirs) = (&mut known.target.log_settings, next.target.log_settings);
    match (&mut ours.properties_to_instrument, theirs.properties_to_instrument.clone()) {
        (Some(list), Some(more)) => add(list, more),
        (None, None) => {}
        (ours, _) => {
            let (here, there) = if ours.is_some() { ("null", "a list") } else { ("a list", "null") };
            conflict(
                format!("{settings}.propertiesToInstrument"),
                format!("is {here} for {object}, and {there}"),
            );
        }
    }
    for (key, different) in differences(ours, &theirs) {
        conflict(format!("{settings}.{key}"), format!("differs for {object}: {different}"));
    }
    for name in ours.excluded_and_asked_by(&theirs).chain(theirs.excluded_and_asked_by(ours)) {
        conflict(
            settings.clone(),
            format!("{name:?} is both instrumented and excluded for {object}; the other place is"),
        );
    }
    add(&mut ours.non_existing_properties_to_instrument, theirs.non_existing_properties_to_instrument);
    add(&mut ours.excluded_properties, theirs.excluded_properties);
    known.target.required |= next.target.required;
}

fn add(list: &mut Vec<String>, more: Vec<String>) {
    for name in more {
        if !list.contains(&name) {
            list.push(name);
        }
    }
}

/// The settings that are not lists and differ, with both values.
fn differences(ours: &LogSettings, theirs: &LogSettings) -> Vec<(&'static str, String)> {
    let (ours, theirs) = (ours.to_json(), theirs.to_json());
    let scalars =
        SETTINGS.iter().map(|s| s.key).filter(|key| !ours[*key].is_array() && !ours[*key].is_null());
    let different = scalars.filter(|key| !theirs[*key].is_array() && ours[*key] != theirs[*key]);
    different.map(|key| (key, format!("{} here, {}", theirs[key], ours[key]))).collect()
}
