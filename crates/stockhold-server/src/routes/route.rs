//! A route: where it is, who answers there, and what it may answer.

use axum::{
    Extension,
    handler::Handler,
    routing::{MethodRouter, get, post, put},
};
use stockhold::Engine;
use utoipa::{
    ToSchema,
    openapi::{
        ContentBuilder, Header, HeaderBuilder, HttpMethod, Ref, RefOr, Required, Response,
        ResponseBuilder, Schema, SecurityRequirement, Type,
        path::{OperationBuilder, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
    },
};

use crate::{
    access::{Need, Scope},
    problem::Kind,
    wire::{
        Consistency, Cursor, Format, HoldIdWord, KeyWord, Limit, LockWord, MaxAge, SkuWord, typed,
    },
};

/// One method of one path.
///
/// What it says of itself is all that the OpenAPI document knows of it, and a test compares each
/// answer with that.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) method: HttpMethod,
    pub(super) handler: MethodRouter<Engine>,
    pub(crate) operation: OperationBuilder,
    /// The problems that it may answer.
    pub(crate) problems: Vec<Kind>,
    /// The schemas that it refers to.
    pub(crate) schemas: Vec<(String, RefOr<Schema>)>,
}

impl Route {
    pub(super) fn get<T, H>(path: &'static str, need: Need, handler: H) -> Self
    where
        T: 'static,
        H: Handler<T, Engine>,
        H::Future: Unpin,
    {
        Self::new(path, HttpMethod::Get, need, get(need.guards(handler)))
    }

    pub(super) fn post<T, H>(path: &'static str, need: Need, handler: H) -> Self
    where
        T: 'static,
        H: Handler<T, Engine>,
        H::Future: Unpin,
    {
        Self::new(path, HttpMethod::Post, need, post(need.guards(handler)))
    }

    pub(super) fn put<T, H>(path: &'static str, need: Need, handler: H) -> Self
    where
        T: 'static,
        H: Handler<T, Engine>,
        H::Future: Unpin,
    {
        Self::new(path, HttpMethod::Put, need, put(need.guards(handler)))
    }

    fn new(
        path: &'static str,
        method: HttpMethod,
        need: Need,
        handler: MethodRouter<Engine>,
    ) -> Self {
        let operation = OperationBuilder::new().tag(tag(path)).securities(Some(security(need)));
        let schemas = Vec::new();
        let problems = EVERYWHERE.to_vec();
        let mut route = Self { path, method, handler, operation, problems, schemas };
        if path.starts_with("/v1/") {
            route = route.refuses(&OF_THE_API);
        }
        if path.contains("{id}") {
            route =
                route.parameter::<HoldIdWord>(ParameterIn::Path, "id", "The number of the hold.");
        }
        if path.contains("{sku}") {
            route = route.parameter::<SkuWord>(
                ParameterIn::Path,
                "sku",
                "The item's SKU, percent-encoded.",
            );
        }
        // With nothing in the place of the name, the path is another one.
        if path.contains('{') { route.refuses(&[Kind::NoRoute]) } else { route }
    }

    /// What it is called, and what it does.
    pub(super) fn does(mut self, id: &str, summary: &str) -> Self {
        self.operation = self.operation.operation_id(Some(id)).summary(Some(summary));
        self
    }

    /// What has to be known besides.
    pub(super) fn mind(mut self, description: &str) -> Self {
        self.operation = self.operation.description(Some(description));
        self
    }

    /// Takes a query parameter, which may be left out.
    pub(super) fn query<T: ToSchema>(self, name: &str, about: &str) -> Self {
        self.parameter::<T>(ParameterIn::Query, name, about)
    }

    /// Says what the name in the path is.
    pub(super) fn named(self, about: &str) -> Self {
        self.parameter::<String>(ParameterIn::Path, "name", about)
    }

    /// Says that the name in the path is that of a lock.
    pub(super) fn of_a_lock(self) -> Self {
        self.parameter::<LockWord>(ParameterIn::Path, "name", "The lock's name, percent-encoded.")
    }

    /// Is a list that is asked for page by page.
    pub(super) fn pages(self) -> Self {
        self.query::<Limit>("limit", LIMIT)
            .query::<Cursor>("cursor", "The next_cursor of the page before.")
            .reads()
    }

    /// Says how fresh the answer has to be.
    pub(super) fn reads(self) -> Self {
        self.query::<Consistency>("consistency", "Whether a copy may answer; left out: strong.")
            .query::<MaxAge>("max_age_ms", "How old a copy may be, in milliseconds.")
    }

    /// Takes an idempotency key.
    pub(super) fn keyed(self) -> Self {
        let about = "A name for this request, under which it may be sent again for 24 hours.";
        self.parameter::<KeyWord>(ParameterIn::Header, "Idempotency-Key", about)
            .refuses(&[Kind::IdempotencyKeyReused])
    }

    /// Takes a JSON body.
    pub(super) fn takes<T: ToSchema>(self) -> Self {
        self.body::<T>(Required::True, JSON)
    }

    /// Takes a JSON body that may be left out.
    pub(super) fn may_take<T: ToSchema>(self) -> Self {
        self.body::<T>(Required::False, JSON)
    }

    /// Answers JSON.
    pub(super) fn answers<T: ToSchema>(self, status: u16, about: &str) -> Self {
        self.answers_with::<T>(status, about, &[])
    }

    /// Answers JSON, and says more in headers: their names, and what they say.
    pub(super) fn answers_with<T: ToSchema>(
        mut self,
        status: u16,
        about: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        let content = ContentBuilder::new().schema(Some(self.refer::<T>())).build();
        let response = ResponseBuilder::new().description(about).content(JSON, content);
        let response = headers
            .iter()
            .fold(response, |response, (name, about)| response.header(*name, header(about)));
        self.response(status, response.build())
    }

    /// Answers 201, or 200 to who asks again with the same key.
    pub(super) fn makes<T: ToSchema>(self, about: &str, headers: &[(&str, &str)]) -> Self {
        let again = "It was done by an earlier request with the same key.";
        self.answers_with::<T>(201, about, headers).answers_with::<T>(200, again, &[REPLAYED])
    }

    /// Answers something that is not JSON.
    pub(super) fn says(self, status: u16, media_type: &str, about: &str) -> Self {
        let content = ContentBuilder::new().schema(Some(typed(Type::String))).build();
        let response = ResponseBuilder::new().description(about).content(media_type, content);
        self.response(status, response.build())
    }

    /// Takes a list of rows, in any of the formats.
    pub(super) fn takes_list<T: ToSchema>(mut self) -> Self {
        self.refer::<T>();
        let text = || ContentBuilder::new().schema(Some(typed(Type::String))).build();
        let body = Format::ALL.into_iter().fold(RequestBodyBuilder::new(), |body, format| {
            body.content(format.media_type(), text())
        });
        let about = format!("Rows as the schema {} says.", T::name());
        let body = body.required(Some(Required::True)).description(Some(about));
        self.operation = self.operation.request_body(Some(body.build()));
        self.refuses(&OF_A_BODY)
    }

    /// Answers a list of rows, in any of the formats.
    pub(super) fn says_rows<T: ToSchema>(mut self, status: u16, about: &str) -> Self {
        self.refer::<T>();
        let about = format!("{about} As the schema {} says.", T::name());
        let text = || ContentBuilder::new().schema(Some(typed(Type::String))).build();
        let response = Format::ALL
            .into_iter()
            .fold(ResponseBuilder::new(), |all, format| all.content(format.media_type(), text()));
        self.response(status, response.description(about).build())
    }

    /// May answer these problems.
    pub(super) fn refuses(mut self, problems: &[Kind]) -> Self {
        self.problems.extend_from_slice(problems);
        self
    }

    /// Hands something to the handler besides the engine.
    pub(super) fn layer<T: Clone + Send + Sync + 'static>(mut self, more: Extension<T>) -> Self {
        self.handler = self.handler.layer(more);
        self
    }

    fn body<T: ToSchema>(mut self, required: Required, media_type: &str) -> Self {
        let content = ContentBuilder::new().schema(Some(self.refer::<T>())).build();
        let body = RequestBodyBuilder::new().required(Some(required)).content(media_type, content);
        self.operation = self.operation.request_body(Some(body.build()));
        self.refuses(&OF_A_BODY)
    }

    fn parameter<T: ToSchema>(mut self, place: ParameterIn, name: &str, about: &str) -> Self {
        let schema = self.refer::<T>();
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(Required::False)
            .description(Some(about))
            .schema(Some(schema));
        self.operation = self.operation.parameter(parameter);
        self
    }

    fn response(mut self, status: u16, response: Response) -> Self {
        self.operation = self.operation.response(status.to_string(), response);
        self
    }

    fn refer<T: ToSchema>(&mut self) -> Ref {
        self.schemas.push((T::name().into(), T::schema()));
        T::schemas(&mut self.schemas);
        Ref::from_schema_name(T::name())
    }
}

pub(crate) const JSON: &str = "application/json";
pub(super) const LIMIT: &str = "The most items of the page.";
pub(super) const REPLAYED: (&str, &str) =
    ("Idempotency-Replayed", "`true` if it was done by an earlier request with the same key.");

/// What any route may answer.
const EVERYWHERE: [Kind; 6] = [
    Kind::InvalidField,
    Kind::Unauthorized,
    Kind::Forbidden,
    Kind::HostNotAllowed,
    Kind::MethodNotAllowed,
    Kind::Internal,
];

/// What any route of the API may answer besides.
const OF_THE_API: [Kind; 3] = [Kind::NotAcceptable, Kind::Overloaded, Kind::Unavailable];

/// What any route may answer that takes a body.
const OF_A_BODY: [Kind; 4] =
    [Kind::InvalidJson, Kind::RequestTimeout, Kind::BodyTooLarge, Kind::UnsupportedMediaType];

/// A header of an answer.
pub(crate) fn header(about: &str) -> Header {
    HeaderBuilder::new().schema(Some(typed(Type::String))).description(Some(about)).build()
}

/// What the caller's key must have.
fn security(need: Need) -> Vec<SecurityRequirement> {
    match need {
        Need::Scope(scope) => vec![SecurityRequirement::new(KEY, [scope.as_str()])],
        Need::Key => vec![SecurityRequirement::new(KEY, [""; 0])],
        Need::ReadFromElsewhere => vec![
            SecurityRequirement::new(KEY, [Scope::Read.as_str()]),
            SecurityRequirement::default(),
        ],
    }
}

/// What the document calls a bearer key.
pub(crate) const KEY: &str = "key";

/// The chapter of the document that a path belongs to.
fn tag(path: &str) -> &str {
    let chapter = path.strip_prefix("/v1/").map(|rest| rest.split('/').next().unwrap_or(rest));
    chapter.unwrap_or("operation")
}
