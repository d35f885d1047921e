//! The status codes of gRPC.

use std::fmt;

/// Declares [`Code`] from rows `Name = number, HTTP status`.
macro_rules! code_table {
    ($($(#[$doc:meta])+ $name:ident = $number:literal, $text:literal, $http:literal;)+) => {
        /// A gRPC status code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Code {
            $($(#[$doc])+ $name = $number,)+
        }

        impl Code {
            /// Every code, by number.
            pub const ALL: [Self; 17] = [$(Self::$name,)+];

            /// The name as Go prints it, which is what texts and metrics show.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// The HTTP status under which the JSON gateway reports this code.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self {
                    $(Self::$name => $http,)+
                }
            }

            /// The decimal number, as the `grpc-status` trailer carries it.
            #[must_use]
            pub const fn digits(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($number),)+
                }
            }
        }
    };
}

code_table! {
    /// Success.
    Ok = 0, "OK", 200;
    /// The client gave up.
    Canceled = 1, "Canceled", 499;
    /// An error without a code of its own.
    Unknown = 2, "Unknown", 500;
    /// The request is wrong whatever the state of the server.
    InvalidArgument = 3, "InvalidArgument", 400;
    /// The deadline passed first.
    DeadlineExceeded = 4, "DeadlineExceeded", 504;
    /// The thing asked for is not there.
    NotFound = 5, "NotFound", 404;
    /// The thing to create is already there.
    AlreadyExists = 6, "AlreadyExists", 409;
    /// The user may not do this.
    PermissionDenied = 7, "PermissionDenied", 403;
    /// A limit is reached.
    ResourceExhausted = 8, "ResourceExhausted", 429;
    /// The state of the server forbids the request.
    FailedPrecondition = 9, "FailedPrecondition", 400;
    /// A conflict; the whole sequence may be tried again.
    Aborted = 10, "Aborted", 409;
    /// Past the valid range.
    OutOfRange = 11, "OutOfRange", 400;
    /// No such method, or not offered.
    Unimplemented = 12, "Unimplemented", 501;
    /// The protocol was broken.
    Internal = 13, "Internal", 500;
    /// Not now; try again.
    Unavailable = 14, "Unavailable", 503;
    /// Data is lost or corrupt.
    DataLoss = 15, "DataLoss", 500;
    /// No valid credentials.
    Unauthenticated = 16, "Unauthenticated", 401;
}

impl Code {
    /// The code with this number; a number beyond the known ones is [`Code::Unknown`].
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        Self::ALL.get(index).copied().unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
