//! The example does what it says.

#[path = "../examples/kv.rs"]
#[expect(dead_code, reason = "its main prints what is compared here")]
mod kv;

#[test]
fn the_key_value_store_tells_its_story() {
    assert_eq!(kv::story(), include_str!("example.txt"));
    assert_eq!(kv::story(), kv::story(), "it is deterministic");
}
