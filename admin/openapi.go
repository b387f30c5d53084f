package admin

import _ "embed"

// openAPI describes the REST API (https://spec.openapis.org/oas/v3.1.1).
//
//go:embed openapi.json
var openAPI []byte
