//go:build tools

// Package http2 names the programs of others that judge the front door, so that their modules and all that these need
// are pinned here.
package http2

import _ "github.com/summerwind/h2spec/cmd/h2spec"
