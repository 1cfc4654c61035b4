"""What Schemathesis cannot know by itself: how a list of stock is written, and which requests may
be refused though the document allows them."""

import schemathesis

# Data that the document allows meets the shop as it is: things that are not there, have ended, ...
REFUSALS = {404, 409, 410, 422, 429}
# ... and what JSON Schema cannot say: limits of the shop, sums, fields that depend on each other.
CODES = {"too_many_lines", "quantity_too_large", "out_of_range", "idempotency_key_required"}


@schemathesis.check
def what_the_document_allows_is_accepted(ctx, response, case):
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if response.status_code < 300 or response.status_code in REFUSALS:
        return
    problem = response.json()
    if problem["code"] in CODES:
        return
    # A cursor is opaque, and a SKU goes with state=active only.
    if case.method == "GET" and problem.get("field") in ("cursor", "sku"):
        return
    # A list of stock is a text, and only its first line can be wrong as a whole.
    if case.path == "/v1/stock-imports":
        return
    raise AssertionError(f"{response.status_code} {problem}")


@schemathesis.hook
def before_call(context, case, kwargs):
    """JSON Schema takes 1.0 for an integer, the rules do not."""
    if case.meta is not None and case.meta.generation.mode.is_positive:
        case.body = without_fractions(case.body)
        if (case.method, case.path) == ("POST", "/v1/holds"):
            hold_what_is_there(case.body)


def hold_what_is_there(body):
    """A place of a single line gets the item that the script has put into stock, so that holds come
    about, and their verbs have something to do."""
    if isinstance(body, dict) and len(body.get("lines", [])) == 1:
        body["lines"] = [{"sku": "MUG", "quantity": 1}]
        body.pop("replaces", None)


def without_fractions(value):
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [without_fractions(item) for item in value]
    if isinstance(value, dict):
        return {name: without_fractions(item) for name, item in value.items()}
    return value


def text(context, value):
    return {"data": value if isinstance(value, (str, bytes)) else str(value)}


for media_type in ("application/x-ndjson", "text/csv"):
    schemathesis.serializer(media_type)(text)
