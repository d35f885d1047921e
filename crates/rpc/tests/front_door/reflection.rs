use api::reflectionpb as pb;
use pb::server_reflection_request::MessageRequest as Question;
use pb::server_reflection_response::MessageResponse as Answer;
use rpc::Limits;

use crate::client::{Call, Client, End};
use crate::member::Member;

const V1: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const V1_ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

fn member() -> Member {
    let drain_timeout = std::time::Duration::ZERO;
    Member::with_limits(Limits { enable_reflection: true, drain_timeout, ..Limits::default() })
}

/// What an answer says, without bytes.
async fn ask(call: &mut Call, question: Question) -> String {
    let request =
        pb::ServerReflectionRequest { host: "here".to_owned(), message_request: Some(question) };
    call.send(&request);
    let response: pb::ServerReflectionResponse = call.next().await.expect("an answer");
    assert_eq!(response.valid_host, "here");
    assert_eq!(response.original_request, Some(request));
    match response.message_response.expect("an answer") {
        Answer::ListServicesResponse(list) => {
            let names = list.service.into_iter().map(|service| service.name);
            names.collect::<Vec<_>>().join(" ")
        }
        Answer::AllExtensionNumbersResponse(all) => {
            format!("{} {:?}", all.base_type_name, all.extension_number)
        }
        Answer::ErrorResponse(error) => format!("{} {}", error.error_code, error.error_message),
        Answer::FileDescriptorResponse(files) => {
            let names = files.file_descriptor_proto.iter().map(|file| file_name(file));
            names.collect::<Vec<_>>().join(" ")
        }
    }
}

/// The first field of a `FileDescriptorProto`.
fn file_name(descriptor: &[u8]) -> &str {
    let [0x0a, len, rest @ ..] = descriptor else { panic!("no name") };
    std::str::from_utf8(&rest[..usize::from(*len)]).expect("a name")
}

#[tokio::test]
async fn the_server_tells_of_itself() {
    let member = member();
    let client = Client::connect(member.address).await;
    for path in [V1, V1_ALPHA] {
        let mut call = client.open(path, &[]).await;
        assert_eq!(
            ask(&mut call, Question::ListServices(String::new())).await,
            "etcdserverpb.Auth etcdserverpb.Cluster etcdserverpb.KV etcdserverpb.Lease \
             etcdserverpb.Maintenance etcdserverpb.Watch grpc.health.v1.Health \
             grpc.reflection.v1.ServerReflection v3electionpb.Election v3lockpb.Lock"
        );
        let symbol = |name: &str| Question::FileContainingSymbol(name.to_owned());
        let of_put = ask(&mut call, symbol("etcdserverpb.KV.Put")).await;
        assert!(of_put.starts_with("rpc.proto ") && of_put.contains("kv.proto"), "{of_put}");
        // What the client has is not sent again, but for what it asks for.
        assert_eq!(ask(&mut call, symbol("etcdserverpb.PutRequest")).await, "rpc.proto");
        assert_eq!(ask(&mut call, symbol("mvccpb.Event.PUT")).await, "kv.proto");
        assert_eq!(ask(&mut call, symbol("etcdserverpb.KV.Nope")).await, "5 not found");
        assert_eq!(
            ask(&mut call, Question::FileByFilename("kv.proto".to_owned())).await,
            "kv.proto"
        );
        assert_eq!(
            ask(&mut call, Question::FileByFilename("nope".to_owned())).await,
            "5 not found"
        );
        let options = "google.protobuf.MethodOptions".to_owned();
        let all = Question::AllExtensionNumbersOfType(options.clone());
        assert_eq!(ask(&mut call, all).await, "google.protobuf.MethodOptions [72295728]");
        let extension = |extension_number| {
            let containing_type = options.clone();
            let of = pb::ExtensionRequest { containing_type, extension_number };
            Question::FileContainingExtension(of)
        };
        assert_eq!(ask(&mut call, extension(72_295_728)).await, "google/api/annotations.proto");
        assert_eq!(ask(&mut call, extension(-1)).await, "5 not found");
        call.half_close();
        let end = call.next_bytes().await;
        assert_eq!(end, Err(End { code: 0, message: String::new() }));
    }
}

#[tokio::test]
async fn a_question_that_is_none_ends_the_call() {
    let member = member();
    let client = Client::connect(member.address).await;
    let nothing = client.call(V1, &pb::ServerReflectionRequest::default()).await;
    assert_eq!(nothing.error(), "3 invalid MessageRequest: <nil>");
}

#[tokio::test]
async fn questions_whose_answers_nobody_reads_come_to_an_end() {
    let member = member();
    let client = Client::connect(member.address).await;
    let mut call = client.open(V1, &[]).await;
    let question = Question::FileContainingSymbol("etcdserverpb.KV".to_owned());
    let request =
        pb::ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    for _ in 0..10_000 {
        call.send(&request);
    }
    let other = Client::connect(member.address).await;
    let mut of_other = other.open(V1, &[]).await;
    assert!(
        ask(&mut of_other, Question::ListServices(String::new())).await.contains("etcdserverpb.KV")
    );
    let end = loop {
        if let Err(end) = call.next_bytes().await {
            break end;
        }
    };
    assert_eq!((end.code, end.message.as_str()), (8, "too many responses, and none is read"));
}

#[tokio::test]
async fn it_does_not_unless_it_is_told_to() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    for (path, version) in [(V1, "v1"), (V1_ALPHA, "v1alpha")] {
        let refused = client.call(path, &pb::ServerReflectionRequest::default()).await;
        let expected = format!("12 unknown service grpc.reflection.{version}.ServerReflection");
        assert_eq!(refused.error(), expected);
    }
}
