//! `grpc.reflection.v1.ServerReflection`, which `v1alpha` equals byte for byte.

use api::reflection::{self, FILES};
use api::reflectionpb as pb;
use api::{Code, Status};
use pb::server_reflection_request::MessageRequest as Question;
use pb::server_reflection_response::MessageResponse as Answer;

use super::{Result, answer, decode};
use crate::desk::Desk;

/// A stream of questions.
#[derive(Debug, Default)]
pub(crate) struct Reflection {
    /// Files that the client has, by their place in [`FILES`].
    sent: [bool; FILES.len()],
}

impl Reflection {
    /// Makes the response to a question in the desk's frame.
    pub(crate) fn request(&mut self, desk: &mut Desk, message: &[u8]) -> Result<()> {
        let request: pb::ServerReflectionRequest = decode(message)?;
        let response = match &request.message_request {
            Some(Question::FileByFilename(name)) => self.file(reflection::file(name)),
            Some(Question::FileContainingSymbol(name)) => {
                self.file(reflection::file_of_symbol(name))
            }
            Some(Question::FileContainingExtension(extension)) => {
                let number = u32::try_from(extension.extension_number).ok();
                self.file(number.and_then(|number| {
                    reflection::file_of_extension(&extension.containing_type, number)
                }))
            }
            Some(Question::AllExtensionNumbersOfType(name)) => extensions(name),
            Some(Question::ListServices(_)) => services(),
            None => {
                return Err(Status::fixed(Code::InvalidArgument, "invalid MessageRequest: <nil>"));
            }
        };
        let response = pb::ServerReflectionResponse {
            valid_host: request.host.clone(),
            original_request: Some(request),
            message_response: Some(response),
        };
        answer(desk, &response)?;
        Ok(())
    }

    /// A file, and what it imports as far as the client does not have that.
    fn file(&mut self, place: Option<usize>) -> Answer {
        let Some(place) = place else { return not_found() };
        let mut wanted = vec![place];
        let mut descriptors = Vec::new();
        while let Some(place) = wanted.pop() {
            let (Some(file), Some(sent)) = (FILES.get(place), self.sent.get_mut(place)) else {
                continue;
            };
            if std::mem::replace(sent, true) && !descriptors.is_empty() {
                continue;
            }
            descriptors.push(file.descriptor.into());
            wanted.extend(file.imports);
        }
        Answer::FileDescriptorResponse(pb::FileDescriptorResponse {
            file_descriptor_proto: descriptors,
        })
    }
}

fn not_found() -> Answer {
    Answer::ErrorResponse(pb::ErrorResponse {
        error_code: Code::NotFound as i32,
        error_message: "not found".to_owned(),
    })
}

fn extensions(name: &str) -> Answer {
    if reflection::file_of_symbol(name).is_none() {
        return not_found();
    }
    Answer::AllExtensionNumbersResponse(pb::ExtensionNumberResponse {
        base_type_name: name.to_owned(),
        extension_number: reflection::extensions(name).map(u32::cast_signed).collect(),
    })
}

fn services() -> Answer {
    let names = api::service::SERVICES.iter().map(|service| service.name.to_owned());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    let service = names.into_iter().map(|name| pb::ServiceResponse { name }).collect();
    Answer::ListServicesResponse(pb::ListServiceResponse { service })
}
