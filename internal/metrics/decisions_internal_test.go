package metrics

import "testing"

func TestEveryDecisionHasLabelsOfItsOwn(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for d, labels := range decisionLabels {
		if labels.result == "" || Decision(d).Reason() == "" || seen[labels.reason] {
			t.Errorf("decision %d has the labels %+v", d, labels)
		}
		seen[labels.reason] = true
	}
}
