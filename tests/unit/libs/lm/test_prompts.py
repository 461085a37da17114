from libs.lm.prompts import Finish, Generated, joined


def piece(index, token, text, finish=None):
    return Generated(
        index=index,
        token_ids=(token,),
        text=text,
        log_probs=(-float(token),),
        finish=finish,
        num_prompt_tokens=4,
    )


def test_pieces_are_put_together_by_prompt():
    pieces = [
        piece(1, 5, "a"),
        piece(0, 6, "", Finish.LENGTH),
        piece(1, 7, "b", Finish.STOP),
    ]
    first, second = joined(pieces)
    assert (first.index, first.finish) == (0, Finish.LENGTH)
    assert (second.token_ids, second.text, second.log_probs) == ((5, 7), "ab", (-5.0, -7.0))
    assert (second.finish, second.num_prompt_tokens) == (Finish.STOP, 4)


def test_no_pieces_make_nothing():
    assert joined([]) == []
