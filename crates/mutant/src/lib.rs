//! What it is: the switch of bugs that etcd and others have had, which are put back to see that our tests notice.
//! What it never does: anything in an ordinary build, where [`mutant!`] is the constant `false`.
//! Entry types: [`mutant!`] where a bug would be, [`put_back`] in the program that looks for it.
//! Owner: nobody; a build with `--cfg mutant` has one static, set once, before the first thread.
//! How to test it: `cargo xtask mutants sim`, `cargo xtask mutants raft`.

/// Whether a bug is put back here: by the name of an issue of etcd or another, or by a word.
///
/// True in two kinds of builds: with `--cfg mutant="NAME"` it always is, which suits the tests of one crate; with
/// `--cfg mutant` alone when [`put_back`] was called with the name, so that one build has all bugs and a run takes one.
#[macro_export]
macro_rules! mutant {
    ($name:tt) => {
        cfg!(mutant = $name) || $crate::is_put_back($name)
    };
}

#[cfg(mutant)]
static PUT_BACK: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Puts a bug back, once for the whole process. Whether that can be: an ordinary build has none.
#[must_use]
#[cfg(mutant)]
pub fn put_back(name: &str) -> bool {
    PUT_BACK.set(name.to_owned()).is_ok()
}

/// Puts a bug back, once for the whole process. Whether that can be: an ordinary build has none.
#[must_use]
#[cfg(not(mutant))]
pub const fn put_back(_: &str) -> bool {
    false
}

/// For [`mutant!`].
#[doc(hidden)]
#[must_use]
#[cfg(mutant)]
pub fn is_put_back(name: &str) -> bool {
    PUT_BACK.get().is_some_and(|chosen| chosen == name)
}

/// For [`mutant!`].
#[doc(hidden)]
#[inline]
#[must_use]
#[cfg(not(mutant))]
pub const fn is_put_back(_: &str) -> bool {
    false
}
