package admin

import (
	"time"

	"github.com/graph-gophers/graphql-go"
)

// The types of schema.graphql: what the REST API shows, in the names and types
// that the library looks for.

type keyGQL struct {
	ID          graphql.ID
	Label       string
	Permissions []string
	IsSystem    bool
	CreatedAt   graphql.Time
	CreatedBy   *string
	ExpiresAt   *graphql.Time
	LastUsedAt  *graphql.Time
}

type keyListGQL struct {
	Data  []keyGQL
	Total int32
	Next  *string
}

type createdGQL struct {
	keyGQL
	Key string
}

type revokedGQL struct {
	ID          graphql.ID
	Label       string
	RevokedAt   graphql.Time
	Instances   instancesGQL
	RequestsCut int32
}

type instancesGQL struct{ Total, Acknowledged, Expired int32 }

type auditListGQL struct {
	Data  []auditGQL
	Total int32
	More  bool
	Next  *string
}

type auditGQL struct {
	ID      graphql.ID
	Event   string
	At      graphql.Time
	Actor   auditActorGQL
	Key     *auditKeyGQL
	Request *requestGQL
	Details jsonObject
}

type auditActorGQL struct {
	Type  string
	ID    string
	Label *string
}

type auditKeyGQL struct {
	ID    graphql.ID
	Label *string
}

type requestGQL struct {
	ID       string
	Method   string
	Path     string
	Status   int32
	ClientIP string
}

func keyOfGQL(k KeyJSON) keyGQL {
	return keyGQL{
		ID: graphql.ID(k.ID.String()), Label: k.Label, Permissions: k.Permissions, IsSystem: k.IsSystem,
		CreatedAt: graphql.Time{Time: k.CreatedAt}, CreatedBy: k.CreatedBy,
		ExpiresAt: timeGQL(k.ExpiresAt), LastUsedAt: timeGQL(k.LastUsedAt),
	}
}

func revokedOfGQL(r RevokedJSON) *revokedGQL {
	return &revokedGQL{
		ID: graphql.ID(r.ID.String()), Label: r.Label, RevokedAt: graphql.Time{Time: r.RevokedAt},
		Instances: instancesGQL{
			Total: int32(r.Instances.Total), Acknowledged: int32(r.Instances.Acknowledged), Expired: int32(r.Instances.Expired),
		},
		RequestsCut: int32(r.RequestsCut),
	}
}

func auditOfGQL(a AuditJSON) auditGQL {
	shown := auditGQL{
		ID: graphql.ID(a.ID.String()), Event: string(a.Event), At: graphql.Time{Time: a.At},
		Actor: auditActorGQL(a.Actor), Details: jsonObject(a.Details),
	}
	if a.Key != nil {
		shown.Key = &auditKeyGQL{ID: graphql.ID(a.Key.ID.String()), Label: a.Key.Label}
	}
	if a.Request != nil {
		shown.Request = &requestGQL{
			ID: a.Request.ID, Method: a.Request.Method, Path: a.Request.Path,
			Status: int32(a.Request.Status), ClientIP: a.Request.ClientIP,
		}
	}
	return shown
}

func timeGQL(t *time.Time) *graphql.Time {
	if t == nil {
		return nil
	}
	return &graphql.Time{Time: *t}
}
