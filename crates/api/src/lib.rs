//! etcd's protocol buffers, the codecs of the hot messages, and the table of errors.
