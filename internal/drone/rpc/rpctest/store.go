package rpctest

import (
	"reflect"
	"time"

	"github.com/drone/drone-go/drone"
)

type (
	build struct {
		drone.Build
		repo    drone.Repo
		secrets []*drone.Secret
		netrc   *drone.Netrc
		config  []byte
		stages  []*stage
	}

	stage struct {
		drone.Stage // Steps is unused: steps is
		build       *build
		steps       []*step
		offered     time.Time // when a poll was last given it
		disturbed   bool      // a fault struck one of its calls
	}

	step struct {
		drone.Step
		stage     *stage
		abandoned bool // its creation was put twice, after a fault: nobody knows its id
		disturbed bool
		stream    bool // a live log is open
		opened    bool // one was, once
		last      int  // pos of the last batched line, -1 before
		live      []drone.Line
		log       []drone.Line
		uploaded  bool
		lines     int // of log, also where it is not kept
		bytes     int64
		card      *drone.CardInput
	}
)

// The wire types differ from drone-go's in what the real server doesn't send, or sends besides.
type (
	wireStage struct {
		RepoID int64 `json:"repo_id"`
		drone.Stage
	}

	wireBuild struct {
		drone.Build
		Debug  bool        `json:"debug,omitempty"`
		Stages []wireStage `json:"stages,omitempty"`
	}

	wireRepo struct {
		drone.Repo
		Build    *drone.Build `json:"build,omitempty"`
		Throttle int64        `json:"throttle,omitempty"`
		Archived bool         `json:"archived"`
	}

	wireSecret struct {
		ID     int64 `json:"id"`
		RepoID int64 `json:"repo_id"`
		drone.Secret
	}

	wireConfig struct {
		Data []byte
		Hash []byte
	}

	wireDetail struct {
		Build   wireBuild     `json:"build"`
		Stage   wireStage     `json:"stage"`
		Config  wireConfig    `json:"config"`
		Secrets []wireSecret  `json:"secrets"`
		System  *drone.System `json:"system"`
		Netrc   *drone.Netrc  `json:"netrc"`
		Repo    wireRepo      `json:"repository"`
	}
)

// wire is the stage as the server sends it, which is without its steps.
func (st *stage) wire() wireStage {
	w := wireStage{RepoID: st.build.RepoID, Stage: st.Stage}
	w.Steps = nil
	return w
}

func now() int64 { return time.Now().Unix() }

// fresh makes a new zero value of what into points to.
func fresh(into any) any { return reflect.New(reflect.TypeOf(into).Elem()).Interface() }
