//! Comparing a partition's **rollup**: byte for byte, and where a `top` is beyond its exact range, whose
//! summary depends on the order in which hunts handed over what they had, within its stated errors.

use super::Difference;
use crate::record::PartitionId;
use crate::refold::Refolded;
use crate::rollup::Delta;
use serde_json::Value;

/// The differences between the stored rollup of a partition and the recomputed one; `stored`: its encoding, `None`: nothing yet.
pub fn compare(partition: &PartitionId, stored: Option<&[u8]>, refolded: &Refolded) -> Vec<Difference> {
    let rollup = refolded.fold.rollup();
    let recomputed = rollup.encode(&refolded.rollup);
    let nothing = rollup.encode(&Delta::default());
    let stored = stored.unwrap_or(&nothing);
    if stored == recomputed {
        return Vec::new();
    }
    let difference = |what: &str, stored: &str, recomputed: &str| Difference::new(partition, None, what, stored, recomputed);
    let delta = match rollup.decode(stored) {
        Ok(delta) => delta,
        Err(error) => return vec![difference("rollup", &format!("bytes that cannot be read ({error})"), "another")],
    };
    let (found, expected) = (rollup.values([&delta]), rollup.values([&refolded.rollup]));
    let mut differences = Vec::new();
    let mut summaries = false;
    for ((name, stored), (_, recomputed)) in found.iter().zip(&expected) {
        let read = |text: &String| serde_json::from_str::<Value>(text).unwrap_or_default();
        let (stored_value, recomputed_value) = (read(stored), read(recomputed));
        summaries |= is_summary(&stored_value) && is_summary(&recomputed_value);
        if !agree(&stored_value, &recomputed_value) {
            differences.push(difference(&format!("rollup {name}"), stored, recomputed));
        }
    }
    if differences.is_empty() && !summaries {
        differences.push(difference("rollup", "the same values, made from another inner state", "its inner state"));
    }
    differences
}

/// Whether an item of the value states an error.
fn is_summary(value: &Value) -> bool {
    let items = value.as_array().map_or(&[][..], Vec::as_slice);
    items.iter().any(|item| item.get("error").is_some() || item.get("value").is_some_and(is_summary))
}

/// Equal, or summaries whose common keys lie within both errors.
fn agree(stored: &Value, recomputed: &Value) -> bool {
    if stored == recomputed {
        return true;
    }
    let (Value::Array(a), Value::Array(b)) = (stored, recomputed) else { return false };
    if a.iter().chain(b).any(|item| item.get("start").is_some()) {
        let same_window = |a: &Value, b: &Value| a["start"] == b["start"] && a["end"] == b["end"];
        return a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_window(a, b) && agree(&a["value"], &b["value"]));
    }
    if !is_summary(stored) || !is_summary(recomputed) || a.iter().chain(b).any(|item| item.get("key").is_none()) {
        return false;
    }
    let number = |item: &Value, name: &str| item[name].as_f64().unwrap_or(0.0);
    a.iter().all(|a| {
        let other = b.iter().find(|b| b["key"] == a["key"]);
        other.is_none_or(|b| (number(a, "value") - number(b, "value")).abs() <= number(a, "error") + number(b, "error"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_summaries_may_differ_and_only_within_their_errors() {
        let item = |key: &str, value: i64, error: i64| json!({"key": key, "value": value, "error": error});
        let exact = |key: &str, value: i64| json!({"key": key, "value": value});
        assert!(agree(&json!([exact("a", 5)]), &json!([exact("a", 5)])));
        assert!(!agree(&json!([exact("a", 5)]), &json!([exact("a", 6)])));
        assert!(!agree(&json!([exact("a", 5)]), &json!([item("a", 6, 9)])));
        assert!(agree(&json!([item("a", 5, 1), item("b", 2, 1)]), &json!([item("a", 7, 1), item("c", 2, 1)])));
        assert!(!agree(&json!([item("a", 5, 1)]), &json!([item("a", 8, 1)])));
        let window = |value: Value| json!([{"start": "s", "end": "e", "value": value}]);
        assert!(agree(&window(json!([item("a", 5, 1)])), &window(json!([item("a", 6, 1)]))));
        assert!(!agree(&window(json!(5)), &window(json!(6))));
        assert!(!agree(&window(json!([item("a", 5, 1)])), &json!([])));
        assert!(!agree(&json!(5), &json!(6)));
    }
}
