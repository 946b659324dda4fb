// Calls every operation of the plan through the client that openapi-generator made for Rust: calls PLAN.json
use openapi::apis::{configuration::Configuration, *};
use openapi::models::{ClassifyRequest, EmbedInputs, EmbedRequest, Inputs, LabelsAnswer, LabelsRow, TextOrIds};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What /admin/heads takes: a path; of release 7.12 the bytes.
trait Upload {
    fn of(path: &str) -> Self;
}
impl Upload for std::path::PathBuf {
    fn of(path: &str) -> Self {
        path.into()
    }
}
impl Upload for Vec<u8> {
    fn of(path: &str) -> Self {
        std::fs::read(path).unwrap()
    }
}

fn body<T: DeserializeOwned>(one: &Value) -> T {
    serde_json::from_value(one["body"].clone()).unwrap_or_else(|e| panic!("{}: {e}", one["operation"]))
}

/// The status. A page for browsers is an error here though it came: this client reads JSON and text/plain alone.
fn status<T, E>(answer: Result<T, Error<E>>) -> Result<u64, String> {
    match answer {
        Ok(_) => Ok(200),
        Err(Error::ResponseError(refused)) => Ok(refused.status.as_u16().into()),
        Err(Error::Serde(e)) if ["text/html", "text/css", "text/javascript"].iter().any(|kind| e.to_string().contains(kind)) => Ok(200),
        Err(other) => Err(other.to_string()),
    }
}

async fn call(c: &Configuration, one: &Value, heads: &str) -> Result<u64, String> {
    use {admin_api as admin, embeddings_api as vectors, open_ai_api as openai, operations_api as plain, predictions_api as heads_of};
    let path = one["paths"][0].as_str().unwrap_or("");
    match one["operation"].as_str().unwrap() {
        "embedRoot" => status(vectors::embed_root(c, body(one), None, None, None, None).await),
        "embed" => status(vectors::embed(c, body(one), None, None, None, None).await),
        "embedAll" => status(vectors::embed_all(c, body(one), None, None, None, None).await),
        "similarity" => status(vectors::similarity(c, body(one), None, None, None, None).await),
        "decode" => status(vectors::decode(c, body(one), None, None, None).await),
        "tokenize" => status(vectors::tokenize(c, body(one), None, None, None).await),
        "openaiEmbeddings" => status(openai::openai_embeddings(c, body(one), None, None, None, None).await),
        "openaiEmbeddingsShort" => status(openai::openai_embeddings_short(c, body(one), None, None, None, None).await),
        "models" => status(openai::models(c).await),
        "model" => status(openai::model(c, path).await),
        "classify" => status(heads_of::classify(c, body(one), None, None, None).await),
        "sentiment" => status(heads_of::sentiment(c, body(one), None, None, None).await),
        "askHead" => status(heads_of::ask_head(c, path, body(one), None, None, None).await),
        "servedHeads" => status(heads_of::served_heads(c).await),
        "analyze" => status(heads_of::analyze(c, body(one), None, None, None, None).await),
        "predict" => status(heads_of::predict(c, body(one), None, None, None, None).await),
        "rerank" => status(heads_of::rerank(c, body(one), None, None, None, None).await),
        "listHeads" => status(admin::list_heads(c).await),
        "getHeads" => status(admin::get_heads(c, path.parse().unwrap()).await),
        "putHeads" => status(admin::put_heads(c, Upload::of(heads), None, None, None).await),
        "removeHead" => status(admin::remove_head(c, path, None, None).await),
        "rollbackHeads" => status(admin::rollback_heads(c, None, None, Some(body(one))).await),
        "shadowReport" => status(admin::shadow_report(c).await),
        "dropShadow" => status(admin::drop_shadow(c, None, None).await),
        "promoteShadow" => status(admin::promote_shadow(c, None, None).await),
        "console" => status(plain::console(c).await),
        "docs" => status(plain::docs(c).await),
        "pageScript" => status(plain::page_script(c).await),
        "pageStyle" => status(plain::page_style(c).await),
        "pageIcon" => status(plain::page_icon(c).await),
        "openapiYaml" => status(plain::openapi_yaml(c).await),
        "openapiJson" => status(plain::openapi_json(c).await),
        "health" => status(plain::health(c).await),
        "livez" => status(plain::livez(c).await),
        "readyz" => status(plain::readyz(c).await),
        "metrics" => status(plain::metrics(c).await),
        "info" => status(plain::info(c).await),
        other => Err(format!("{other} is not called here")),
    }
}

/// With the client's own types, as docs/CONTRACT.md shows.
async fn typed(c: &Configuration) {
    let request = EmbedRequest::new(EmbedInputs::TextsOrIds(vec![TextOrIds::String("a text".into()), TextOrIds::TokenIds(vec![101, 102])]));
    let vectors = embeddings_api::embed(c, request, None, None, None, None).await.unwrap();
    assert!(vectors.len() == 2 && vectors[0].len() == vectors[1].len());
    let request = ClassifyRequest::new(Inputs::Texts(vec!["a text".into(), "another".into()]));
    match predictions_api::classify(c, request, None, None, None).await.unwrap() {
        LabelsAnswer::LabelsRows(rows) => assert!(rows.len() == 2 && rows.iter().all(|row| matches!(row, LabelsRow::Predictions(_)))),
        other => panic!("{other:?}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let file = std::fs::read(std::env::args().nth(1).unwrap()).unwrap();
    let plan: Value = serde_json::from_slice(&file).unwrap();
    let text = |name: &str| plan[name].as_str().unwrap().to_owned();
    let cases = plan["cases"].as_array().unwrap();
    for one in cases {
        let admin = one["admin"].as_bool().unwrap();
        let mut client = Configuration::new();
        client.base_path = text(if admin { "admin" } else { "main" });
        client.bearer_access_token = admin.then(|| text("token"));
        let answer = call(&client, one, &text("heads")).await;
        assert_eq!(answer, Ok(one["status"].as_u64().unwrap()), "{}", one["operation"]);
    }
    let mut client = Configuration::new();
    client.base_path = text("main");
    typed(&client).await;
    println!("{} called", cases.len());
}
