"""Which test tries which attack: a list to read, and a test that nothing on it has gone."""

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]

SECAGG, FEDERATED, CHAIN = "unit/secagg/", "unit/federated/", "chain/"
MODES, ATTACKS = FEDERATED + "test_attacks_modes.py::", FEDERATED + "test_attacks.py::"
ROUND, NODE = SECAGG + "test_round.py::", SECAGG + "test_node.py::"
MASKS, BOXES, SPARSE = SECAGG + "test_masks.py::", SECAGG + "test_boxes.py::", SECAGG + "test_sparse.py::"
ENCODING, VECTORS = SECAGG + "test_encoding.py::", SECAGG + "test_vectors.py::"
STATE, MORE = SECAGG + "test_state.py::", SECAGG + "test_attack_list.py::"
CONTRACT, JUDGE = CHAIN + "test_secure_round.py::", CHAIN + "test_round_judge.py::"
FAULTS, ARCHIVE = FEDERATED + "test_fault_injection.py::", FEDERATED + "test_archive.py::"

ATTACKS_AND_TESTS = {
    "known answers of the mask generator": [
        MASKS + "test_known_answer_of_nist",
        MASKS + "test_masks_fill_the_whole_field",
        BOXES + "test_key_agreement_of_rfc_7748",
    ],
    "full use of the key": [MASKS + "test_every_byte_of_the_key_matters"],
    "a mask stream that restarts for each variable": [
        MASKS + "test_the_stream_is_continuous_over_the_whole_vector",
        MASKS + "test_threads_enter_the_stream_where_their_part_begins",
        MASKS + "test_two_masked_coordinates_of_one_client_do_not_cancel",
    ],
    "a request for both kinds of share": [
        ROUND + "test_a_request_for_both_kinds_of_share_fails_on_both_sides",
        NODE + "test_exactly_one_kind_of_share_per_dealer",
        JUDGE + "test_an_opener_of_the_other_kind_is_convicted",
        MODES + "test_of_one_challenged_away_one_kind_of_share_is_opened",
        MODES + "test_a_challenge_cannot_move_a_member_after_shares_were_opened",
        MODES + "test_a_chain_that_goes_back_brings_nobody_to_open_both_kinds",
    ],
    "two survivor lists": [
        NODE + "test_a_second_survivor_list_is_refused",
        SPARSE + "test_two_lists_would_give_both_secrets_away_below_the_larger_threshold",
        SPARSE + "test_one_final_list_keeps_the_second_secret_out_of_reach",
        MORE + "test_a_second_survivor_list_is_refused_where_it_moves_a_neighbour_or_somebody_far",
        ATTACKS + "test_shares_opened_for_one_list_are_not_opened_for_another",
        CONTRACT + "test_a_vector_that_is_kept_back_is_a_drop_out_for_everybody",
    ],
    "lists that overlap, name strangers or name somebody twice": [
        NODE + "test_survivor_lists_that_cannot_be_are_refused_and_open_nothing",
        NODE + "test_announcements_must_hold_this_node_and_no_stranger",
        ROUND + "test_the_aggregator_refuses_impossible_survivor_lists",
        ROUND + "test_openings_of_drop_outs_and_of_strangers_shares_are_ignored_by_name",
        SECAGG + "test_roster.py::test_survivor_lists_that_cannot_be_are_refused",
        MORE + "test_who_seats_the_members_in_another_order_deals_to_nobody",
    ],
    "tampering with boxes": [
        BOXES + "test_every_bit_is_authenticated",
        ROUND + "test_a_bad_box_is_complained_about_and_the_round_goes_on",
        ATTACKS + "test_a_share_message_altered_in_the_mailbox_changes_nothing",
        MORE + "test_a_neighbours_box_does_not_open_for_another_neighbour",
    ],
    "replay and reflection": [
        BOXES + "test_a_box_replayed_elsewhere_is_refused",
        BOXES + "test_a_reflected_box_is_refused",
        ROUND + "test_an_altered_replayed_or_reflected_box_is_complained_about",
        ATTACKS + "test_messages_of_an_earlier_round_do_not_pass_for_this_one",
        VECTORS + "test_a_vector_of_another_round_is_refused",
        MODES + "test_a_box_of_shares_is_no_sealed_opening",
    ],
    "a bad dealer": [
        ROUND + "test_a_few_shares_off_the_polynomial_are_corrected_and_their_dealer_named",
        ROUND + "test_many_shares_off_the_polynomial_end_the_round_and_name_their_dealer",
        JUDGE + "test_shares_off_the_polynomial_convict_their_dealer",
        JUDGE + "test_an_honest_dealer_is_never_convicted_and_one_slip_always",
        MODES + "test_a_bad_dealer_is_convicted_and_the_round_is_done",
        ATTACKS + "test_a_dealer_that_hides_its_shares_costs_one_round_and_is_drawn_no_more",
    ],
    "a bad opener": [
        ROUND + "test_a_bad_opener_is_named_and_ignored",
        JUDGE + "test_an_opener_of_another_share_is_convicted",
        JUDGE + "test_an_honest_opener_is_never_convicted",
        MODES + "test_a_bad_opener_is_convicted_and_the_round_is_done",
        MORE + "test_a_share_of_a_dealer_that_is_no_neighbour_is_ignored_by_name",
    ],
    "a late vector": [
        CONTRACT + "test_a_message_is_heard_once_and_not_after_its_deadline",
        ROUND + "test_a_late_vector_stays_hidden_after_its_mask_key_is_known",
        MODES + "test_a_late_vector_and_a_late_answer_are_refused",
    ],
    "an altered, dropped or doubled input": [
        ROUND + "test_a_changed_sum_never_decodes",
        CONTRACT + "test_a_wrong_sum_reverts",
        MODES + "test_a_vector_altered_in_storage_is_shown_by_its_sender",
        MODES + "test_a_vector_that_was_seen_cannot_be_taken_away_again",
        MODES + "test_a_vector_counts_once",
        MODES + "test_a_wrong_sum_is_refused_by_the_contract",
        MORE + "test_a_vector_moved_to_another_groups_sum_never_decodes",
        MORE + "test_two_groups_sums_exchanged_never_decode",
    ],
    "a vector that is kept back": [
        CONTRACT + "test_a_vector_that_is_kept_back_is_a_drop_out_for_everybody",
        CONTRACT + "test_an_answer_puts_the_vector_back",
        MODES + "test_a_withheld_vector_makes_its_sender_a_drop_out_that_pays",
        MODES + "test_a_vector_that_storage_lost_is_shown_as_blobs",
        MODES + "test_who_keeps_its_vector_back_again_in_hash_mode_is_drawn_no_more",
        FAULTS + "test_each_node_at_each_step",
    ],
    "a commitment that is not the vector's": [
        JUDGE + "test_a_commitment_to_another_vector_is_proved_by_one_element",
        JUDGE + "test_a_true_commitment_is_never_convicted",
        VECTORS + "test_a_contradiction_is_found_and_proved",
        VECTORS + "test_what_hides_behind_the_end_of_the_vector_is_found_too",
        MODES + "test_a_commitment_to_another_vector_costs_the_stake",
        MODES + "test_a_root_that_leads_nowhere_keeps_nobody_from_adding_up",
        MODES + "test_what_hides_behind_the_end_of_a_vector_changes_nothing",
    ],
    "points off the curve, or outside the group": [
        CONTRACT + "test_what_is_no_point_is_refused",
        JUDGE + "test_a_point_outside_the_group_convicts",
        MODES + "test_a_point_off_the_curve_is_not_taken",
        MODES + "test_a_point_outside_the_group_is_convicted_before_the_sum_is_opened",
    ],
    "challenges as a weapon": [
        CONTRACT + "test_challenges_have_one_window_and_answers_one_more",
        MODES + "test_challenging_everybody_drops_nobody",
    ],
    "a wrong or crafted global model": [
        MODES + "test_a_wrong_sum_in_storage_gives_no_node_another_model",
        MODES + "test_a_sealed_result_of_anything_else_is_refused",
        MODES + "test_verifiers_that_the_operator_has_not_accepted_are_refused",
        MODES + "test_a_sum_that_storage_hides_for_a_while_is_not_skipped",
        MODES + "test_without_storage_a_finished_sum_comes_from_the_blobs_of_the_chain",
        ATTACKS + "test_a_wrong_sum_is_refused_by_the_contract",
        ATTACKS + "test_a_node_refuses_a_task_that_is_not_the_registered_one",
        FEDERATED + "test_network.py::test_every_node_sees_the_same_model_on_its_own",
    ],
    "drop-outs at every step up to delta, and one more": [
        FAULTS + "test_each_node_at_each_step",
        FAULTS + "test_as_many_at_once_as_the_round_stands_and_one_more",
        ROUND + "test_dropouts_up_to_the_threshold_at_every_step",
        ROUND + "test_one_more_dropout_at_any_step_ends_the_round",
        SPARSE + "test_the_last_share_is_enough_and_one_less_ends_the_round",
        SECAGG + "test_groups.py::test_a_group_of_one_is_never_opened",
    ],
    "the hash of a share in the place of the share": [
        ROUND + "test_a_hash_in_the_place_of_a_share_is_noticed"
    ],
    "seeds with leading zeros": [
        ROUND + "test_seeds_with_leading_zeros_survive",
        SECAGG + "test_shares.py::test_any_quorum_reconstructs",
    ],
    "overflow of the modulus": [
        ENCODING + "test_extremes_at_the_largest_weight_stay_in_their_lanes",
        SECAGG + "test_config.py::test_the_default_weight_limit_fills_the_lane_and_does_not_overflow",
        CONTRACT + "test_vectors_outside_the_field_or_of_another_length_are_refused",
        VECTORS + "test_an_element_outside_the_field_is_the_senders_fault",
    ],
    "NaN and infinities": [ENCODING + "test_values_that_are_not_finite_are_refused_with_their_index"],
    "weights beyond their limit": [
        ENCODING + "test_weights_outside_the_limit_are_refused",
        ENCODING + "test_metric_weights_outside_the_limit_are_refused",
    ],
    "biased rounding": [ENCODING + "test_zero_is_exact_and_rounding_is_unbiased"],
    "keys or nonces used again in another round, task or chain": [
        MODES + "test_no_key_and_no_nonce_serves_two_rounds_tasks_or_chains",
        MASKS + "test_other_round_task_contract_or_chain_gives_other_masks",
        ROUND + "test_one_member_key_in_two_rounds_gives_unrelated_messages",
        BOXES + "test_nonces_are_fresh",
        NODE + "test_every_session_draws_fresh_secrets",
    ],
    "X25519 points of small order": [
        BOXES + "test_points_of_small_order_are_refused",
        ROUND + "test_a_small_order_mask_key_hurts_only_its_owner",
        ATTACKS + "test_a_joiner_with_an_unusable_key_cannot_stop_the_others",
        MODES + "test_a_key_that_nothing_can_be_sealed_to_harms_its_owner_alone",
    ],
    "grinding of the selection": [
        CONTRACT + "test_selection_takes_the_lowest_scores_in_their_order",
        CONTRACT + "test_an_old_beacon_is_thrown_again",
        JUDGE + "test_the_draw_takes_the_lowest_scores",
    ],
    "joining late": [
        CONTRACT + "test_every_call_in_every_phase",
        CONTRACT + "test_joining_has_criteria",
    ],
    "a commitment copied from another node": [
        VECTORS + "test_a_copied_root_or_commitment_or_vector_cannot_verify",
        MODES + "test_a_commitment_copied_from_another_node_counts_for_nothing",
        MODES + "test_a_copied_commitment_with_the_others_blobs_leaves_masks_in_the_sum",
    ],
    "a verifier that its caller chooses, and one that lies": [
        MODES + "test_verifiers_are_those_that_were_registered_and_no_others",
        MODES + "test_a_verifier_that_lies_is_outvoted",
        MODES + "test_a_look_alike_judge_is_refused",
        ATTACKS + "test_a_look_alike_contract_is_refused",
        CONTRACT + "test_a_minority_cannot_attest_another_mask",
    ],
    "one bad proof that kills a task": [
        MODES + "test_one_bad_proof_convicts_nobody_and_kills_no_task",
        ATTACKS + "test_one_spoiled_sum_costs_one_round_and_parts_no_nodes",
        JUDGE + "test_evidence_against_a_dealer_is_bound_to_everything",
        JUDGE + "test_evidence_against_an_opener_is_bound_to_everything",
    ],
    "metrics, counts and updates in clear": [
        MODES + "test_counts_metrics_and_updates_are_nowhere_in_clear",
        MODES + "test_sealed_openings_and_results_are_in_no_byte_that_others_read",
        FEDERATED + "test_network.py::test_what_the_contract_holds_says_nothing_about_the_sum",
    ],
    "gas that grows with the number of nodes": [MODES + "test_gas_of_a_node_does_not_grow_with_the_others"],
    "a task archive that was swapped, code that nobody approved": [
        ATTACKS + "test_a_node_refuses_code_that_is_not_the_registered_one",
        ATTACKS + "test_foreign_code_runs_only_when_its_operator_has_approved_it",
        ARCHIVE + "test_nothing_runs_before_approval",
        ARCHIVE + "test_every_byte_is_covered_by_the_hashes",
    ],
    "a coordinator that does not answer": [
        MODES + "test_anybody_finishes_when_the_coordinator_does_not",
        ATTACKS + "test_a_stranger_who_turns_the_crank_first_changes_nothing",
    ],
    "storage that hides or alters messages": [
        ATTACKS + "test_a_message_that_storage_hides_is_put_on_chain",
        MODES + "test_storage_that_alters_what_is_on_chain_anyway_is_not_asked",
        MODES + "test_one_node_whose_result_is_gone_does_not_stop_the_workers",
        MODES + "test_nodes_that_were_not_drawn_get_the_sealed_result_too",
    ],
    "a node that is killed in mid-round": [
        STATE + "test_a_node_killed_at_any_stage_finishes_the_round",
        STATE + "test_a_restored_session_does_nothing_twice",
        MODES + "test_a_node_killed_at_any_step_goes_on_from_its_vault",
        MODES + "test_a_process_killed_between_disk_and_chain_goes_on_in_another",
    ],
    "a chain that goes back": [
        ATTACKS + "test_a_chain_that_goes_back_gets_no_second_vector",
        ATTACKS + "test_a_chain_that_goes_back_takes_the_models_with_it",
        MODES + "test_a_chain_that_goes_back_brings_nobody_to_open_both_kinds",
    ],
}


@cache
def functions_of(file):
    tree = ast.parse((TESTS / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("attack", ATTACKS_AND_TESTS)
def test_every_attack_is_tried_by_tests_that_are_there(attack):
    named = ATTACKS_AND_TESTS[attack]
    assert named
    for test in named:
        file, _, name = test.partition("::")
        assert name.startswith("test_")
        assert name in functions_of(file), f"{file} has no {name}"


def test_every_attack_on_the_modes_is_on_the_list():
    listed = {test for named in ATTACKS_AND_TESTS.values() for test in named}
    file = MODES.removesuffix("::")
    assert {name for name in functions_of(file) if name.startswith("test_")} == {
        test.partition("::")[2] for test in listed if test.startswith(MODES)
    }
