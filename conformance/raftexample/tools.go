//go:build tools

// Package raftexample names etcd's example program, so that its module and all that it needs are pinned here.
package raftexample

import _ "go.etcd.io/etcd/v3/contrib/raftexample"
