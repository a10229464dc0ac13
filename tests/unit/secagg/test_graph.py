"""The neighbour graph: known answers, exact tails, and positions that contract and node count alike."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from twopm_kit.errors import ProtocolError, RoundConfigError
from twopm_kit.secagg import Graph, find_graph

repeatable = settings(derandomize=True, deadline=None, max_examples=60)


@st.composite
def graphs(draw):
    members = draw(st.integers(2, 120))
    sparse = list(range(2, members - 1, 2))
    degree = draw(st.sampled_from([*sparse, members - 1]))
    return Graph(members, degree, draw(st.integers(1, degree + 1)))


@pytest.mark.parametrize(
    ("numbers", "degree", "threshold"),
    [
        ((100, 0.1, 0.3), 34, 11),
        ((1000, 0.1, 0.1), 48, 27),
        ((50, 0.1, 0.3), 49, 26),
        ((2, 0.1, 0.3), 1, 2),
        ((51, 0.49, 0.49), 50, 26),
    ],
)
def test_known_answers(numbers, degree, threshold):
    graph = find_graph(*numbers)
    assert (graph.degree, graph.threshold) == (degree, threshold)
    assert graph.complete == (degree == numbers[0] - 1)


@pytest.mark.parametrize("numbers", [(100, 0.1, 0.3), (1000, 0.1, 0.1), (300, 0.2, 0.1), (128, 0.05, 0.05)])
def test_the_bounds_hold_and_no_smaller_degree_would_do(numbers):
    members, gamma, delta = numbers
    graph = find_graph(*numbers)
    corrupt, staying = round(gamma * members), round((1 - delta) * members)

    def fits(degree, threshold):
        known = hypergeom(members, corrupt, degree).sf(threshold - 1)
        short = hypergeom(members, staying, degree).cdf(threshold - 1)
        return members * known <= 2.0**-41 and members * short <= 2.0**-20

    assert fits(graph.degree, graph.threshold)
    assert not fits(graph.degree, graph.threshold - 1)
    connected_before = members * graph.degree >= 0 and any(
        fits(graph.degree - 2, t) for t in range(2, graph.degree - 1)
    )
    if connected_before:  # then it was the ring that could fall apart
        gone = corrupt + members - staying
        chance = members * (members - graph.degree + 1) / 2
        for i in range(graph.degree - 2):
            chance *= (gone - i) / (members - i)
        assert chance > 2.0**-41


def test_without_one_final_list_more_shares_are_needed():
    for numbers in ((100, 0.1, 0.3), (1000, 0.1, 0.1), (40, 0.2, 0.2)):
        one, many = find_graph(*numbers), find_graph(*numbers, single_list=False)
        assert many.threshold > one.threshold
        assert many.degree >= one.degree
        assert 2 * many.threshold > many.degree + 1


def test_a_degree_may_have_to_serve_smaller_rounds_too():
    whole = find_graph(110, 0.1, 0.3)
    range_of = find_graph(110, 0.1, 0.3, least=51)
    assert range_of.degree >= whole.degree
    for members in range(range_of.degree + 2, 111):
        known = hypergeom(members, members // 10, range_of.degree).sf(range_of.threshold - 1)
        short = hypergeom(members, members - 3 * members // 10, range_of.degree).cdf(range_of.threshold - 1)
        assert members * known <= 2.0**-41
        assert members * short <= 2.0**-20


@pytest.mark.parametrize("numbers", [(1, 0.1, 0.1), (1001, 0.1, 0.1), (100, 0.1, 0.5), (10, 0.8, 0.3)])
def test_impossible_combinations_are_refused(numbers):
    with pytest.raises(RoundConfigError):
        find_graph(*numbers)


@pytest.mark.parametrize("numbers", [(1, 0, 1), (10, 3, 2), (10, 10, 2), (10, 0, 1), (10, 4, 6), (10, 4, 0)])
def test_impossible_graphs_are_refused(numbers):
    with pytest.raises(RoundConfigError):
        Graph(*numbers)


def test_receivers_stand_in_ring_order_from_the_dealer_on():
    assert Graph(7, 4, 2).receivers(0) == (0, 1, 2, 5, 6)
    assert Graph(7, 4, 2).receivers(6) == (6, 0, 1, 4, 5)
    assert Graph(4, 3, 3).receivers(2) == (2, 3, 0, 1)
    assert Graph(7, 4, 2).neighbours(0) == (1, 2, 5, 6)


@repeatable
@given(graphs(), st.data())
def test_every_member_has_its_neighbours_and_they_have_it(graph, data):
    position = data.draw(st.integers(0, graph.members - 1))
    receivers = graph.receivers(position)
    assert len(set(receivers)) == graph.degree + 1
    assert receivers[0] == position
    assert [graph.index(position, r) for r in receivers] == list(range(graph.degree + 1))
    for other in range(graph.members):
        assert graph.adjacent(position, other) == graph.adjacent(other, position)
        assert graph.adjacent(position, other) == (other in receivers and other != position)
        if other not in receivers:
            with pytest.raises(ProtocolError, match="not neighbours"):
                graph.index(position, other)


@repeatable
@given(graphs(), st.data())
def test_the_leaf_place_is_the_one_that_the_contract_computes(graph, data):
    """The rule of the contract, written out: one subtraction, no list."""
    n, k = graph.members, graph.degree
    dealer = data.draw(st.integers(0, n - 1))
    receiver = data.draw(st.sampled_from(graph.receivers(dealer)))
    offset = (receiver + n - dealer) % n
    assert graph.index(dealer, receiver) == (
        offset if graph.complete or offset <= k // 2 else offset - (n - 1 - k)
    )


@pytest.mark.parametrize(("members", "degree"), [(9, 4), (10, 4), (10, 6)])
def test_fewer_than_k_departures_never_part_the_ring(members, degree):
    """Harary: k − 1 removals leave it connected; k of them part it in n (n − k − 1) / 2 ways at most."""
    graph = Graph(members, degree, 2)

    def connected(staying):
        seen, todo = set(), [staying[0]]
        while todo:
            at = todo.pop()
            if at not in seen:
                seen.add(at)
                todo += [p for p in graph.neighbours(at) if p in staying]
        return len(seen) == len(staying)

    for gone in combinations(range(members), degree - 1):
        assert connected([p for p in range(members) if p not in gone])
    parted = sum(
        not connected([p for p in range(members) if p not in gone])
        for gone in combinations(range(members), degree)
    )
    assert 0 < parted <= members * (members - degree - 1) // 2
