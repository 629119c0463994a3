"""What people see of a study and take away from it.

`report` writes the page, `figures` and `text_plot` draw the front, `wording` and `comparison` say what candidates differ in, and
`bundle` is the folder that is shipped. All of it is drawn from results alone, without search, study or TensorFlow.
"""
