//! gateway_json: a body is cut into values, and what is read of a value as a message can be written and read again.

use api::json::{Values, decode, encode};
use api::schema::ROUTES;

/// Reads `data`, whose first byte names a path, as the body of a request.
pub fn run(data: &[u8]) {
    let Some((path, body)) = data.split_first() else { return };
    let route = &ROUTES[usize::from(*path) % ROUTES.len()];
    let _ = encode(route.output, body, true, &mut String::new());
    let _ = decode(route.input, body);
    let mut values = Values::new(1 << 16);
    values.push(body);
    while let Ok(Some(value)) = values.finish() {
        let Ok(message) = decode(route.input, &value) else { continue };
        let mut text = String::new();
        encode(route.input, &message, false, &mut text).expect("a message was made");
        let again = decode(route.input, text.as_bytes()).expect("a text was made");
        // Fields are read in any order, and written in one.
        let mut text_again = String::new();
        encode(route.input, &again, false, &mut text_again).expect("a message was made");
        assert_eq!(text_again, text);
    }
}
