//! The OpenAPI document: what the routes say of themselves, put together.

mod problems;

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Paths,
        Ref, RefOr, Response, ResponseBuilder, Schema, Type,
        schema::{AdditionalProperties, OneOfBuilder},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{
    answer::Answer,
    extract::NoQuery,
    problem::Kind,
    routes::{self, KEY, Route, header},
    wire::typed,
};

static DOCUMENT: LazyLock<String> = LazyLock::new(document);

/// `GET /openapi.json`
pub(crate) async fn serve(NoQuery: NoQuery) -> Answer {
    Answer::ok(DOCUMENT.as_bytes().to_vec())
}

/// The document as JSON.
pub(crate) fn document() -> String {
    let document = assemble(routes::all());
    // Our own types have text keys and no failing parts.
    document.to_pretty_json().unwrap_or_default()
}

/// The schema of the document itself, which is OpenAPI's matter.
pub(crate) struct Document;

impl PartialSchema for Document {
    fn schema() -> RefOr<Schema> {
        typed(Type::Object).additional_properties(Some(AdditionalProperties::FreeForm(true))).into()
    }
}

impl ToSchema for Document {
    fn name() -> Cow<'static, str> {
        "Document".into()
    }
}

fn assemble(routes: Vec<Route>) -> OpenApi {
    let mut paths = Paths::new();
    let mut schemas: BTreeMap<String, RefOr<Schema>> = problems::schemas();
    for route in routes {
        let Route { path, method, mut operation, problems, schemas: more, .. } = route;
        for (status, kinds) in by_status(&problems) {
            operation = operation.response(status.to_string(), response(&kinds));
        }
        paths.add_path_operation(path, vec![method], operation);
        schemas.extend(more);
    }
    let info = InfoBuilder::new()
        .title("stockhold")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .build();
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components(schemas))).build()
}

const ABOUT: &str = "Holds stock for a customer while they pay, and never oversells.";

fn components(mut schemas: BTreeMap<String, RefOr<Schema>>) -> Components {
    schemas.values_mut().for_each(close);
    let about = "A key that `stockhold key new` makes; not needed where the server has none.";
    let key = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about)).build();
    ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme(KEY, SecurityScheme::Http(key))
        .build()
}

/// What an object does not name it does not have.
fn close(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = schema
        && !object.properties.is_empty()
    {
        let closed = AdditionalProperties::FreeForm(false);
        object.additional_properties.get_or_insert_with(|| Box::new(closed));
    }
}

fn by_status(problems: &[Kind]) -> BTreeMap<u16, Vec<Kind>> {
    let mut statuses: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
    for kind in problems {
        let kinds = statuses.entry(kind.status().as_u16()).or_default();
        if !kinds.contains(kind) {
            kinds.push(*kind);
        }
    }
    statuses
}

fn response(kinds: &[Kind]) -> Response {
    let titles: Vec<_> = kinds.iter().map(|kind| format!("{}.", kind.title())).collect();
    let content = ContentBuilder::new().schema(Some(one_of(kinds))).build();
    let response = ResponseBuilder::new()
        .description(titles.join(" "))
        .content("application/problem+json", content);
    match kinds.first().map(|kind| kind.status().as_u16()) {
        Some(401) => response.header("WWW-Authenticate", header("`Bearer`.")).build(),
        Some(405) => response.header("Allow", header("The methods of the path.")).build(),
        Some(429 | 503) => response.header("Retry-After", header("In how many seconds.")).build(),
        _ => response.build(),
    }
}

/// The schema of a problem of this kind.
pub(crate) fn problem_of(kind: Kind) -> Ref {
    Ref::from_schema_name(problems::name(kind))
}

fn one_of(kinds: &[Kind]) -> RefOr<Schema> {
    match kinds {
        [kind] => problem_of(*kind).into(),
        kinds => {
            kinds.iter().fold(OneOfBuilder::new(), |all, kind| all.item(problem_of(*kind))).into()
        }
    }
}
